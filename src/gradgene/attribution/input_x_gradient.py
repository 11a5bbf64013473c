"""Input times gradient: the first-order effect of scaling a token's embedding.

Formula
    score_t = Σ_d ∂f/∂E_d · E_d, both at the explained member, on the chosen layer.
Source
    Shrikumar et al. 2016, "Not Just a Black Box" (arXiv 1605.01713); to first order it is
    `grad_x_delta` against an embedding of zero.
Promises
    Neither complete nor symmetric; no baseline enters a score: backward scores are those of the
    baseline cell for the same scalar, and [CLS] and [EOS] score too. A gene that the member lacks
    scores exactly 0. One gradient per distinct cell serves all its pairs (spec 0 §5).
Use it
    As the plain comparator without a baseline. Rank by `contrast`: half the input's own scores
    minus half the baseline cell's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradgene.attribution.gradients import CellGradientMethod

__all__ = ["InputXGradient"]


@dataclass(frozen=True)
class InputXGradient(CellGradientMethod):
    """Gradient at a cell times its own embeddings; scores_pt in the units of f.

    Parameters and errors are those of `CellGradientMethod`.
    """

    name: ClassVar[str] = "input_x_gradient"
    needs_baseline: ClassVar[bool] = False
