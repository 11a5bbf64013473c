"""Is it right? Quality of the model, completeness and faithfulness of the scores, known genes."""

from gradgene.evaluation.calibration import (
    Calibration,
    fit_temperature,
    negative_log_likelihood,
    tempered,
)
from gradgene.evaluation.completeness import completeness_summary
from gradgene.evaluation.faithfulness import FRACTIONS, SwapGap, swap_gap
from gradgene.evaluation.quality import confusion, prediction_quality, quality_by_donor
from gradgene.evaluation.recovery import KnownGenes, recovered

__all__ = [
    "FRACTIONS",
    "Calibration",
    "KnownGenes",
    "SwapGap",
    "completeness_summary",
    "confusion",
    "fit_temperature",
    "negative_log_likelihood",
    "prediction_quality",
    "quality_by_donor",
    "recovered",
    "swap_gap",
    "tempered",
]
