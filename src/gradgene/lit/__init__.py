"""Thin Lightning: data module, module and callbacks."""

from gradgene.lit.data import CellDataModule
from gradgene.lit.finetuning import FineTuning, with_head
from gradgene.lit.history import HistoryCallback
from gradgene.lit.objective import MaskedTarget
from gradgene.lit.pairs import AttributionCollector, pair_loader
from gradgene.lit.phenotype import PhenotypeModule

__all__ = [
    "AttributionCollector",
    "CellDataModule",
    "FineTuning",
    "HistoryCallback",
    "MaskedTarget",
    "PhenotypeModule",
    "pair_loader",
    "with_head",
]
