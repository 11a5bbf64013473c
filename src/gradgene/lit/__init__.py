"""Thin Lightning: data module, module and callbacks."""

from gradgene.lit.data import CellDataModule
from gradgene.lit.distributed import fsdp, leave_processes
from gradgene.lit.finetuning import FineTuning, with_head
from gradgene.lit.history import HistoryCallback
from gradgene.lit.masking import MaskedTokens
from gradgene.lit.objective import MaskedTarget
from gradgene.lit.pairs import AttributionCollector, pair_loader
from gradgene.lit.phenotype import PhenotypeModule
from gradgene.lit.pretraining import Pretraining, PretrainingModule
from gradgene.lit.resuming import LastCheckpoint, StepHistory
from gradgene.lit.stream_data import StreamDataModule
from gradgene.lit.streaming import Streaming, TokenStream

__all__ = [
    "AttributionCollector",
    "CellDataModule",
    "FineTuning",
    "HistoryCallback",
    "LastCheckpoint",
    "MaskedTarget",
    "MaskedTokens",
    "PhenotypeModule",
    "Pretraining",
    "PretrainingModule",
    "StepHistory",
    "StreamDataModule",
    "Streaming",
    "TokenStream",
    "fsdp",
    "leave_processes",
    "pair_loader",
    "with_head",
]
