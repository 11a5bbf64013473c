"""Captum's `LayerDeepLift`, called pair by pair: for parity and comparison only.

Formula
    DeepLIFT's rescale rule at the activations that Captum knows as modules (ReLU, tanh, ...), the
    plain gradient elsewhere, times the difference of embeddings. A transformer with GELU has none
    of those modules in its path, so that score_t = Σ_d ∂f/∂E_d (at the input) ·
    (E_input - E_baseline)_d, which is `grad_x_delta` (spec 0 §1). With `activation=relu`, or read
    by a classifier, which has a ReLU, it is not.
Source
    Captum (Kokhlikyan et al. 2020), as the code of the gene-selection paper calls it: the whole
    model over all positions of both padded members, each with its own mask, one pair and one
    direction at a time.
Promises
    No more than `grad_x_delta`: neither complete nor symmetric, and blind to presence.
Use it
    To check `grad_x_delta` against it and to time it; that gives the same numbers many times
    faster. Captum embeds the baseline's tokens itself, so a zero baseline is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captum.attr import LayerDeepLift
from torch import Tensor, nn

from gradgene.attribution.captum_reader import CaptumMethod, CaptumReader, Inputs

__all__ = ["CaptumDeepLift"]


@dataclass(frozen=True)
class CaptumDeepLift(CaptumMethod):
    """Captum's own DeepLIFT; scores_pt in the units of f.

    Raises `AttributionError` for an unknown layer or a zero baseline.
    """

    name: ClassVar[str] = "captum_deeplift"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = False

    def explain(self, reader: CaptumReader, layer: nn.Module, i: Inputs, b: Inputs) -> Tensor:
        """Captum's scores (1, positions, dim) of input `i` against baseline `b` at `layer`."""
        scores_1td: Tensor = LayerDeepLift(reader, layer).attribute(i, b)
        return scores_1td
