"""Is it right? Quality of the model, completeness and faithfulness of the scores, known genes."""

from gradgene.evaluation.agreement import (
    Similarity,
    consensus,
    correlations,
    disputed,
    similarity,
)
from gradgene.evaluation.calibration import (
    Calibration,
    tempered,
)
from gradgene.evaluation.completeness import completeness_summary
from gradgene.evaluation.effects import (
    EffectAgreement,
    KnownEffects,
    PooledScores,
    effect_agreement,
)
from gradgene.evaluation.faithfulness import (
    MEASURES,
    AopcLimits,
    Faithfulness,
    FaithfulnessMeasure,
    Infidelity,
    PairReader,
    Removal,
    SwapGap,
    Swaps,
    Units,
    infidelity,
    max_sensitivity,
    measured,
    normalised_aopc,
    read_attainable_aopc,
    read_random_swaps,
    read_removal,
    read_swap_gap,
    reading,
)
from gradgene.evaluation.interactions import (
    Interactions,
    interaction_table,
)
from gradgene.evaluation.quality import confusion, prediction_quality, quality_by_donor
from gradgene.evaluation.randomisation import cascade, randomised, shuffle_genes
from gradgene.evaluation.recovery import read_known_genes, recovered
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.evaluation.sanity import Control, Sanity, SanityVerdict, judge_sanity, sanity_table
from gradgene.evaluation.settings import Evaluation, Evidence
from gradgene.evaluation.stability import (
    Plateau,
    Stability,
    donor_stability,
    pair_stability,
    plateau,
    table_stability,
)

__all__ = [
    "MEASURES",
    "AopcLimits",
    "Calibration",
    "Control",
    "EffectAgreement",
    "Evaluation",
    "Evidence",
    "Faithfulness",
    "FaithfulnessMeasure",
    "Infidelity",
    "Interactions",
    "KnownEffects",
    "PairReader",
    "Plateau",
    "PooledScores",
    "Removal",
    "SampledScores",
    "Sanity",
    "SanityVerdict",
    "Similarity",
    "Stability",
    "SwapGap",
    "Swaps",
    "Units",
    "cascade",
    "completeness_summary",
    "confusion",
    "consensus",
    "correlations",
    "disputed",
    "donor_stability",
    "effect_agreement",
    "infidelity",
    "interaction_table",
    "judge_sanity",
    "max_sensitivity",
    "measured",
    "normalised_aopc",
    "pair_stability",
    "plateau",
    "prediction_quality",
    "quality_by_donor",
    "randomised",
    "read_attainable_aopc",
    "read_known_genes",
    "read_random_swaps",
    "read_removal",
    "read_swap_gap",
    "reading",
    "recovered",
    "sanity_table",
    "shuffle_genes",
    "similarity",
    "table_stability",
    "tempered",
]
