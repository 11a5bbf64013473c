"""Expected gradients: integrated gradients at random points of the path.

Formula
    embedding_t = (E_input - E_baseline) · E_α[∂f/∂E] and presence_t = Δp E_α[(∂f/∂b) / p], with
    the path and the presence of `integrated_gradients` and α uniform on (0, 1), as means over
    `n_samples` draws. Draws come in pairs α and 1 - α and are the same for every pair of cells.
Source
    Erion et al. 2021 (expected gradients), which `GradientShap` of Lundberg & Lee's SHAP computes
    with one baseline a draw. Here the baselines of an input are its pairs: draw more of them
    (`pairs.per_cell`) to average over baselines. The noise on the input that some versions add is
    left out: it would have to be the same for a gene in every batch and order, and would explain
    a blurred f.
Promises
    Complete in expectation only: the remainder falls with the root of `n_samples`. Symmetric,
    because the draws are their own mirror image. Sees presence. Seeded: the same scores in every
    run, batch and order of genes.
Use it
    To compare with results of SHAP. `integrated_gradients` reaches far more at the same cost.
    Because the method is symmetric, the mean of both directions is zero: rank by `forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradgene.attribution.method import DirectionScores, EmbeddingMethod
from gradgene.attribution.paths import Nodes, PathIntegral
from gradgene.attribution.target import BoundTarget
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch

__all__ = ["GradientShap"]

#: Draws keep this distance from both ends, where log p would leave float32.
MARGIN = 1e-6


@dataclass(frozen=True)
class GradientShap(EmbeddingMethod):
    """Expected gradients: scores_pt in the units of f.

    Parameters
    ----------
    n_samples
        Draws, and gradients a pair; even, because draws come in mirrored pairs.
    seed
        Of the draws.

    Raises
    ------
    AttributionError
        If `n_samples` is not positive and even.
    """

    n_samples: int = 20
    seed: int = 0

    name: ClassVar[str] = "gradient_shap"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = True
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_samples < 2 or self.n_samples % 2:
            raise AttributionError(
                "draws come in mirrored pairs",
                where="attribution.method.n_samples",
                expected="a positive even number",
                found=str(self.n_samples),
            )

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        draw = torch.Generator().manual_seed(self.seed)
        half_k = torch.rand(self.n_samples // 2, generator=draw, dtype=torch.float64)
        half_k = half_k.clamp(MARGIN, 1 - MARGIN)
        share_k = torch.cat([half_k, 1 - half_k])
        nodes = Nodes(share_k, torch.full_like(share_k, 1 / self.n_samples))
        return PathIntegral(model, blended, target, self.layer, self.name).scores(nodes)
