"""Gene rankings in, pruning curves on held-out cells out."""

from gradgene.pruning.curve import PruningCurve
from gradgene.pruning.metrics import arm_metrics, contrast_accuracy
from gradgene.pruning.predict import Predictions, predict
from gradgene.pruning.prune import Judged, PruningSettings, prune
from gradgene.pruning.ranking import (
    GeneRanking,
    RankingChoice,
    deg_ranking,
    expression_ranking,
    hvg_ranking,
    random_rankings,
    table_ranking,
)

__all__ = [
    "GeneRanking",
    "Judged",
    "Predictions",
    "PruningCurve",
    "PruningSettings",
    "RankingChoice",
    "arm_metrics",
    "contrast_accuracy",
    "deg_ranking",
    "expression_ranking",
    "hvg_ranking",
    "predict",
    "prune",
    "random_rankings",
    "table_ranking",
]
