"""Complete DeepLIFT for transformers, with the appearance of genes scored as presence.

Formula
    Each non-linear step (GELU, LayerNorm, attention products and softmax) passes back a
    finite-difference multiplier between input and baseline instead of a derivative, so that
    Σ_t score_t = f(input, its mask) - f(baseline, its mask) up to rounding. The score of a token
    is Σ_d m_d (E_input - E_baseline)_d on the total embedding, plus its presence score: what the
    attention gains by the key being there at all. For `layer=value` and `layer=identity` the
    multipliers are carried on through the embedding norm and shared out; being there is a fact
    about the gene and not about its value, so the scores of the identity layer contain the presence
    and those of the value layer do not: value + identity add up to the same difference.
Source
    Rules of Shrikumar et al. 2017 (DeepLIFT, rescale) carried to products, LayerNorm and, by
    logarithmic means, to softmax; derivation and measurements in spec 0 §3.
Promises
    Complete, symmetric (swapping the pair negates every score), sees presence; invariant to any
    constant added to a row of attention scores.
Use it
    By default. Because it is symmetric, the mean of both directions is zero: rank by `forward`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from gradgene.attribution.members import embed_members, logits_at, presence_share
from gradgene.attribution.method import DirectionScores, EmbeddingMethod
from gradgene.attribution.propagation import PairTape, presence_like
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch

__all__ = ["DeepLift"]


@dataclass(frozen=True)
class DeepLift(EmbeddingMethod):
    """Complete DeepLIFT: scores_pt in the units of f, Σ scores = f_input - f_baseline.

    Raises `AttributionError` for models with a step it has no rule for.
    """

    name: ClassVar[str] = "deeplift"
    complete: ClassVar[bool] = True
    symmetric: ClassVar[bool] = True
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = True

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        members = embed_members(model, blended, self.layer)
        x_ptd = members.x_input_ptd.detach().requires_grad_(True)
        x_baseline_ptd, category = members.x_baseline_ptd, target.category
        presence_pt = presence_like(x_ptd)
        tape = PairTape(model, presence_pt)
        with tape.recording():
            logits_b = logits_at(
                model, self.layer, x_baseline_ptd, members.mask_baseline_pt, category
            )
        with tape.replaying():
            logits_i = logits_at(model, self.layer, x_ptd, members.mask_input_pt, category)
        z_i, z_b = (z.detach().to(presence_pt.dtype) for z in (logits_i, logits_b))
        # Materialised: a model without attention leaves presence at 0.
        m_ptd, presence_pt = torch.autograd.grad(
            logits_i,
            (x_ptd, presence_pt),
            target.multipliers(z_i, z_b).to(logits_i.dtype),
            materialize_grads=True,
        )
        embedding_pt = (m_ptd * members.difference_ptd).sum(dim=-1, dtype=presence_pt.dtype)
        presence_pt = presence_share(self.layer, presence_pt)
        return DirectionScores.of_parts(
            embedding_pt, presence_pt, target.read(z_i), target.read(z_b)
        )
