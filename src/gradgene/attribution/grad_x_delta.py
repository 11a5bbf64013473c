"""Gradient times difference: what the literature calls DeepLIFT on a transformer.

Formula
    score_t = Σ_d ∂f/∂E_d (at the input) · (E_input - E_baseline)_d on the total embedding.
Source
    Captum's `LayerDeepLift` hooks none of a transformer's steps and equals this to the last bit
    (spec 0 §1). The gradient is taken once per distinct cell on its compact sequence: without
    positions, padding changes nothing, so every baseline costs one gene join and a dot product
    (spec 0 §5).
Promises
    Neither complete nor symmetric, and blind to presence: a gene that only the baseline has
    scores exactly 0.
Use it
    For speed, and to compare with published results. Rank by `contrast`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradgene.attribution.method import AttributionMethod, DirectionScores
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch

__all__ = ["GradXDelta"]


@dataclass(frozen=True)
class GradXDelta(AttributionMethod):
    """Gradient at the input times the difference of embeddings; scores_pt in the units of f."""

    name: ClassVar[str] = "grad_x_delta"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = False

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        rows, of_pair_p = blended.input_rows_p.unique(return_inverse=True)
        f_n, gradient_ntd = _gradients(model, blended, rows, target)
        columns_pt = blended.input_columns_pt
        gradient_ptd = gradient_ntd[of_pair_p[:, None], columns_pt.clamp(min=0)]
        gradient_ptd = gradient_ptd * (columns_pt >= 0)[..., None]
        with torch.no_grad():
            difference_ptd = model.embed(blended.input) - model.embed(blended.baseline)
        scores_pt = (gradient_ptd * difference_ptd).sum(dim=-1)
        return DirectionScores(
            scores_pt=scores_pt,
            embedding_pt=scores_pt,
            presence_pt=None,
            f_input_p=f_n[of_pair_p],
            f_baseline_p=_baselines(model, blended, target),
        )


def _gradients(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, rows: Tensor, target: BoundTarget
) -> tuple[Tensor, Tensor]:
    """f (cells,) and ∂f/∂E (cells, tokens, dim) of distinct cells on their compact sequences."""
    cells = blended.cells.take(rows)
    with torch.no_grad():
        embeddings = model.embed(cells)
    embeddings.requires_grad_(True)
    f_n = target.read(model.read(embeddings, cells.attention_mask_nt, target.category))
    (gradient,) = torch.autograd.grad(f_n.sum(), embeddings)
    return f_n.detach(), gradient


@torch.no_grad()
def _baselines(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
) -> Tensor:
    """f (pairs,) of the baselines, each distinct one read once on its compact sequence."""
    columns_pt = blended.baseline_columns_pt
    cells = blended.cells.take(blended.baseline_rows_p)
    shown_pt = torch.zeros_like(cells.attention_mask_nt)
    pair, position = (columns_pt >= 0).nonzero(as_tuple=True)
    shown_pt[pair, columns_pt[pair, position]] = True
    # Equal cells may show different genes: the empty baseline shows none.
    what_pt = torch.cat([blended.baseline_rows_p[:, None], shown_pt.long()], dim=1)
    distinct, of_pair_p = what_pt.unique(dim=0, return_inverse=True)
    compact = blended.cells.take(distinct[:, 0]).keep(distinct[:, 1:].bool())
    logits = model.read(model.embed(compact), compact.attention_mask_nt, target.category)
    return target.read(logits)[of_pair_p]
