"""Methods by name."""

from __future__ import annotations

from typing import Any

from gradgene.attribution.captum_deeplift import CaptumDeepLift
from gradgene.attribution.captum_integrated_gradients import CaptumIntegratedGradients
from gradgene.attribution.deeplift import DeepLift
from gradgene.attribution.gim import Gim
from gradgene.attribution.grad_x_delta import GradXDelta
from gradgene.attribution.gradient_shap import GradientShap
from gradgene.attribution.input_x_gradient import InputXGradient
from gradgene.attribution.integrated_gradients import IntegratedGradients
from gradgene.attribution.method import AttributionMethod
from gradgene.attribution.random_scores import RandomScores
from gradgene.attribution.remove_occlusion import RemoveOcclusion
from gradgene.attribution.swap_occlusion import SwapOcclusion
from gradgene.errors import AttributionError, closest

__all__ = ["METHODS", "build_method"]

#: Method name -> class; adding a method is a file, a line here and a leaf in `conf/attribution/`.
METHODS: dict[str, type[AttributionMethod]] = {
    m.name: m
    for m in (
        DeepLift,
        IntegratedGradients,
        GradientShap,
        GradXDelta,
        InputXGradient,
        Gim,
        SwapOcclusion,
        RemoveOcclusion,
        RandomScores,
        CaptumDeepLift,
        CaptumIntegratedGradients,
    )
}


def build_method(name: str, **parameters: Any) -> AttributionMethod:
    """Make the method called `name` with its own `parameters`.

    Raises
    ------
    AttributionError
        For an unknown name, naming the closest ones.
    """
    if name not in METHODS:
        raise AttributionError(
            f"no attribution method {name!r}",
            where="attribution",
            expected=f"one of {closest(name, METHODS)}",
        )
    return METHODS[name](**parameters)
