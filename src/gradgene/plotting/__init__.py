"""Pure matplotlib primitives: plain arrays and frames in, one `Figure` out, one palette for all.

Figures are made with matplotlib's object API and never through pyplot, so that drawing needs no
display and leaves no figure open.
"""

from gradgene.plotting.agreement import disputed_genes, ranking_agreement
from gradgene.plotting.curves import completeness, training_curves
from gradgene.plotting.distributions import score_distribution, scores_by_gene
from gradgene.plotting.evidence import effect_correlations, enrichment_bars
from gradgene.plotting.faithfulness import faithfulness_measures
from gradgene.plotting.genes import top_genes
from gradgene.plotting.interactions import interaction_map
from gradgene.plotting.methods import memory_by_length, method_comparison
from gradgene.plotting.palette import (
    COMPARED,
    CONTROLS,
    METRIC_NAMES,
    ORDER_NAMES,
    PALETTE,
    ranking_styles,
)
from gradgene.plotting.pruning import (
    ARM_NAMES,
    PAPER_METRICS,
    mark_leaks,
    pruning_curves,
    pruning_grid,
    pruning_orders,
)
from gradgene.plotting.pruning_lines import ratio_places
from gradgene.plotting.sanity import sanity_checks
from gradgene.plotting.stability import donor_stability, pair_stability

__all__ = [
    "ARM_NAMES",
    "COMPARED",
    "CONTROLS",
    "METRIC_NAMES",
    "ORDER_NAMES",
    "PALETTE",
    "PAPER_METRICS",
    "completeness",
    "disputed_genes",
    "donor_stability",
    "effect_correlations",
    "enrichment_bars",
    "faithfulness_measures",
    "interaction_map",
    "mark_leaks",
    "memory_by_length",
    "method_comparison",
    "pair_stability",
    "pruning_curves",
    "pruning_grid",
    "pruning_orders",
    "ranking_agreement",
    "ranking_styles",
    "ratio_places",
    "sanity_checks",
    "score_distribution",
    "scores_by_gene",
    "top_genes",
    "training_curves",
]
