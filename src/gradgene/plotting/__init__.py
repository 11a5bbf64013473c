"""Pure matplotlib primitives: plain arrays and frames in, one `Figure` out, one palette for all.

Figures are made with matplotlib's object API and never through pyplot, so that drawing needs no
display and leaves no figure open.
"""

from gradgene.plotting.curves import completeness, pruning_curves, training_curves
from gradgene.plotting.distributions import score_distribution, scores_by_gene
from gradgene.plotting.evidence import effect_correlations, enrichment_bars
from gradgene.plotting.genes import top_genes
from gradgene.plotting.methods import memory_by_length, method_comparison
from gradgene.plotting.palette import (
    COMPARED,
    CONTROLS,
    METRIC_NAMES,
    ORDER_NAMES,
    PALETTE,
    ranking_styles,
)

__all__ = [
    "COMPARED",
    "CONTROLS",
    "METRIC_NAMES",
    "ORDER_NAMES",
    "PALETTE",
    "completeness",
    "effect_correlations",
    "enrichment_bars",
    "memory_by_length",
    "method_comparison",
    "pruning_curves",
    "ranking_styles",
    "score_distribution",
    "scores_by_gene",
    "top_genes",
    "training_curves",
]
