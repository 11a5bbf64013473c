"""Thin Lightning: data module, module and callbacks."""

from gradgene.lit.batches import rank_and_world
from gradgene.lit.collecting import AttributionCollector, Keeping
from gradgene.lit.data import CellDataModule
from gradgene.lit.distributed import (
    ddp,
    deepspeed,
    end_started,
    fsdp,
    leave_orphaned,
    leave_processes,
    meet,
    others_are_there,
)
from gradgene.lit.explaining import Explained
from gradgene.lit.finetuning import FineTuning, with_head
from gradgene.lit.history import HistoryCallback
from gradgene.lit.objective import MaskedTarget
from gradgene.lit.pairs import PairBatches, PlannedPairs, pair_batches, pair_loader
from gradgene.lit.phenotype import PhenotypeModule
from gradgene.lit.pretraining import Pretraining, PretrainingModule
from gradgene.lit.progress import Minutes, ProgressBar
from gradgene.lit.resuming import LastCheckpoint, StepHistory
from gradgene.lit.safe_logger import SafeLogger
from gradgene.lit.stream_data import StreamDataModule
from gradgene.lit.streaming import Streaming, TokenStream

__all__ = [
    "AttributionCollector",
    "CellDataModule",
    "Explained",
    "FineTuning",
    "HistoryCallback",
    "Keeping",
    "LastCheckpoint",
    "MaskedTarget",
    "Minutes",
    "PairBatches",
    "PhenotypeModule",
    "PlannedPairs",
    "Pretraining",
    "PretrainingModule",
    "ProgressBar",
    "SafeLogger",
    "StepHistory",
    "StreamDataModule",
    "Streaming",
    "TokenStream",
    "ddp",
    "deepspeed",
    "end_started",
    "fsdp",
    "leave_orphaned",
    "leave_processes",
    "meet",
    "others_are_there",
    "pair_batches",
    "pair_loader",
    "rank_and_world",
    "with_head",
]
