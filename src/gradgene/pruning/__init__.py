"""Gene rankings in, pruning curves on held-out cells out."""

from gradgene.pruning.areas import RANDOM_WEIGHTS
from gradgene.pruning.controls import (
    deg_ranking,
    expression_ranking,
    hvg_batch_ranking,
    hvg_ranking,
    matched_rankings,
    pseudobulk_ranking,
    random_rankings,
)
from gradgene.pruning.curve import PruningCurve
from gradgene.pruning.metrics import arm_metrics, contrast_accuracy
from gradgene.pruning.per_pair import predict_pairs
from gradgene.pruning.points import Arms, Point, curve_of
from gradgene.pruning.predict import Predictions, Progress, Track, predict
from gradgene.pruning.prune import Judged, places, prune
from gradgene.pruning.ranking import GeneRanking, RankingChoice, table_ranking
from gradgene.pruning.settings import PruningSettings

__all__ = [
    "RANDOM_WEIGHTS",
    "Arms",
    "GeneRanking",
    "Judged",
    "Point",
    "Predictions",
    "Progress",
    "PruningCurve",
    "PruningSettings",
    "RankingChoice",
    "Track",
    "arm_metrics",
    "contrast_accuracy",
    "curve_of",
    "deg_ranking",
    "expression_ranking",
    "hvg_batch_ranking",
    "hvg_ranking",
    "matched_rankings",
    "places",
    "predict",
    "predict_pairs",
    "prune",
    "pseudobulk_ranking",
    "random_rankings",
    "table_ranking",
]
