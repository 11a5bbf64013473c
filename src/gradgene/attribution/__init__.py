"""A model and blended pairs in, signed token scores in both directions out."""

from gradgene.attribution.captum_deeplift import CaptumDeepLift
from gradgene.attribution.captum_integrated_gradients import CaptumIntegratedGradients
from gradgene.attribution.deeplift import DeepLift
from gradgene.attribution.gim import Gim
from gradgene.attribution.grad_x_delta import GradXDelta
from gradgene.attribution.gradient_shap import GradientShap
from gradgene.attribution.input_x_gradient import InputXGradient
from gradgene.attribution.integrated_gradients import IntegratedGradients
from gradgene.attribution.integrated_hessians import integrated_hessians
from gradgene.attribution.interactions import GeneInteractions, mixed_differences
from gradgene.attribution.method import (
    Attribution,
    AttributionMethod,
    DirectionScores,
    NotFiniteError,
)
from gradgene.attribution.random_scores import RandomScores
from gradgene.attribution.registry import METHODS, build_method
from gradgene.attribution.remove_occlusion import RemoveOcclusion
from gradgene.attribution.settings import AttributionSettings
from gradgene.attribution.swap_occlusion import SwapOcclusion
from gradgene.attribution.target import BoundTarget, Target

__all__ = [
    "METHODS",
    "Attribution",
    "AttributionMethod",
    "AttributionSettings",
    "BoundTarget",
    "CaptumDeepLift",
    "CaptumIntegratedGradients",
    "DeepLift",
    "DirectionScores",
    "GeneInteractions",
    "Gim",
    "GradXDelta",
    "GradientShap",
    "InputXGradient",
    "IntegratedGradients",
    "NotFiniteError",
    "RandomScores",
    "RemoveOcclusion",
    "SwapOcclusion",
    "Target",
    "build_method",
    "integrated_hessians",
    "mixed_differences",
]
