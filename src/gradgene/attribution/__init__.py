"""A model and blended pairs in, signed token scores in both directions out."""

from gradgene.attribution.deeplift import DeepLift
from gradgene.attribution.grad_x_delta import GradXDelta
from gradgene.attribution.method import Attribution, AttributionMethod, DirectionScores
from gradgene.attribution.registry import METHODS, build_method
from gradgene.attribution.settings import AttributionSettings
from gradgene.attribution.target import BoundTarget, Target

__all__ = [
    "METHODS",
    "Attribution",
    "AttributionMethod",
    "AttributionSettings",
    "BoundTarget",
    "DeepLift",
    "DirectionScores",
    "GradXDelta",
    "Target",
    "build_method",
]
