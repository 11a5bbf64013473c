"""Complete DeepLIFT for transformers, with the appearance of genes scored as presence.

Formula
    Each non-linear step (GELU, LayerNorm, attention products and softmax) passes back a
    finite-difference multiplier between input and baseline instead of a derivative, so that
    Σ_t score_t = f(input, its mask) - f(baseline, its mask) up to rounding. The score of a token
    is Σ_d m_d (E_input - E_baseline)_d on the total embedding, plus its presence score: what the
    attention gains by the key being there at all.
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

from gradgene.attribution.method import AttributionMethod, DirectionScores
from gradgene.attribution.propagation import PairTape
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch

__all__ = ["DeepLift"]


@dataclass(frozen=True)
class DeepLift(AttributionMethod):
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
        mask_i, mask_b = blended.input.attention_mask_nt, blended.baseline.attention_mask_nt
        with torch.no_grad():
            e_b = model.embed(blended.baseline)
            e_i = model.embed(blended.input)
        e_i.requires_grad_(True)
        presence = torch.zeros_like(e_i[..., 0], requires_grad=True)
        tape = PairTape(model, presence)
        with tape.recording():
            logits_b = model.read(e_b, mask_b, target.category)
        with tape.replaying():
            logits_i = model.read(e_i, mask_i, target.category)
            seed = target.multipliers(logits_i.detach(), logits_b)
            # Materialised: a model without attention leaves presence at 0.
            m_ptd, presence_pt = torch.autograd.grad(
                logits_i, (e_i, presence), seed, materialize_grads=True
            )
        embedding_pt = (m_ptd * (e_i.detach() - e_b)).sum(dim=-1)
        return DirectionScores(
            scores_pt=embedding_pt + presence_pt,
            embedding_pt=embedding_pt,
            presence_pt=presence_pt,
            f_input_p=target.read(logits_i.detach()),
            f_baseline_p=target.read(logits_b),
        )
