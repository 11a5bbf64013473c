"""Captum's `LayerIntegratedGradients`, called pair by pair: for parity and comparison only.

Formula
    score_t = Σ_d (E_input - E_baseline)_d · Σ_k w_k ∂f/∂E_d at E_baseline + α_k (E_input -
    E_baseline), with Gauss-Legendre nodes α_k and weights w_k on (0, 1), and the attention mask of
    the input all along.
Source
    Captum (Kokhlikyan et al. 2020) of Sundararajan et al. 2017, as the code of the gene-selection
    paper calls it.
Promises
    Not complete: with the mask frozen the scores add up to f(input) - f(baseline with the
    *input's* genes), so the delta stays open at any number of steps wherever gene sets differ (spec
    0 §4). Not symmetric, and blind to presence: a gene that only the baseline has scores exactly 0.
Use it
    To compare with published results; otherwise `integrated_gradients`, whose path takes each
    cell's own genes along. Captum embeds the baseline's tokens itself, so a zero baseline is
    refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from gradgene.attribution.captum_reader import CaptumMethod, CaptumReader, Inputs
from gradgene.attribution.method import require_positive

__all__ = ["CaptumIntegratedGradients"]


@dataclass(frozen=True)
class CaptumIntegratedGradients(CaptumMethod):
    """Captum's own integrated gradients; scores_pt in the units of f.

    Parameters
    ----------
    n_steps
        Nodes of the path; Captum runs all of them at once.

    Raises
    ------
    AttributionError
        For an unknown layer, no steps, or a zero baseline.
    """

    name: ClassVar[str] = "captum_integrated_gradients"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = False

    n_steps: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("n_steps", self.n_steps)

    def explain(self, reader: CaptumReader, layer: nn.Module, i: Inputs, b: Inputs) -> Tensor:
        """Captum's scores (1, positions, dim) of input `i` against baseline `b` at `layer`."""
        scores_1td: Tensor = LayerIntegratedGradients(reader, layer).attribute(
            i, b, n_steps=self.n_steps, method="gausslegendre"
        )
        return scores_1td
