"""Is it right? Quality of the model, completeness and faithfulness of the scores, known genes."""

from gradgene.evaluation.calibration import (
    Calibration,
    fit_temperature,
    negative_log_likelihood,
    tempered,
)
from gradgene.evaluation.completeness import completeness_summary
from gradgene.evaluation.effects import (
    EffectAgreement,
    KnownEffects,
    PooledScores,
    effect_agreement,
)
from gradgene.evaluation.faithfulness import FRACTIONS, SwapGap, swap_gap
from gradgene.evaluation.quality import confusion, prediction_quality, quality_by_donor
from gradgene.evaluation.recovery import read_known_genes, recovered
from gradgene.evaluation.settings import Evaluation, Evidence

__all__ = [
    "FRACTIONS",
    "Calibration",
    "EffectAgreement",
    "Evaluation",
    "Evidence",
    "KnownEffects",
    "PooledScores",
    "SwapGap",
    "completeness_summary",
    "confusion",
    "effect_agreement",
    "fit_temperature",
    "negative_log_likelihood",
    "prediction_quality",
    "quality_by_donor",
    "read_known_genes",
    "recovered",
    "swap_gap",
    "tempered",
]
