"""Gradient times difference: what the literature calls DeepLIFT on a transformer.

Formula
    score_t = Σ_d ∂f/∂E_d (at the input) · (E_input - E_baseline)_d on the chosen layer; where the
    baseline lacks the gene its embedding is that of `[PAD]`, where the input lacks it the gradient
    is 0.
Source
    Captum's `LayerDeepLift` hooks none of a transformer's steps and equals this to the last bit
    (spec 0 §1). The gradient is taken once per distinct cell on its compact sequence: without
    positions, padding changes nothing, so every baseline costs one gene join and a dot product, and
    both directions come from the same gradients (spec 0 §5).
Promises
    Neither complete nor symmetric, and blind to presence: a gene that only the baseline has
    scores exactly 0.
Use it
    For speed, with many baselines for each input, and to compare with published results. Rank by
    `contrast`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradgene.attribution.gradients import CellGradientMethod

__all__ = ["GradXDelta"]


@dataclass(frozen=True)
class GradXDelta(CellGradientMethod):
    """Gradient at the input times the difference of embeddings; scores_pt in the units of f.

    Parameters and errors are those of `CellGradientMethod`.
    """

    name: ClassVar[str] = "grad_x_delta"
    needs_baseline: ClassVar[bool] = True
