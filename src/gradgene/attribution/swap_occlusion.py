"""Swap occlusion: what f loses when one token of the input takes the baseline's state.

Formula
    score_j = f(input) - f(input with token j in the baseline's state). A gene of both members
    takes the baseline's embedding, one that only the input has is deleted, one that only the
    baseline has is added; positive speaks for the explained label. A token of both members counts
    as embedding, one of a single member as presence: each score is wholly one or the other.
Source
    Occlusion (Zeiler and Fergus 2014) with a counterfactual cell in place of a grey patch; it is
    the first step of the swap-gap of spec 0 §9, taken for every token.
Promises
    Sees presence and is exact for the change it makes, with no gradient and no rule. Not complete
    (what tokens do together is counted in each or in none of them) and not symmetric (it starts
    from the input). Tokens with one state in both members score exactly 0.
Use it
    As the yardstick of faster methods on a few pairs: it runs the model once for every token in
    which the members differ, hundreds of times what a gradient costs. Rank by `contrast`, which
    averages the step away from the input and the step towards it from the baseline. A score is the
    difference of two readings, so with bfloat16 weights much of a small one is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradgene.attribution.members import embed_members
from gradgene.attribution.method import DirectionScores
from gradgene.attribution.occlusion import Occlusion, explained_tokens
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch

__all__ = ["SwapOcclusion"]


@dataclass(frozen=True)
class SwapOcclusion(Occlusion):
    """One token at a time in the baseline's state; scores_pt in the units of f.

    Raises `AttributionError` if `forward_tokens` is not positive.
    """

    name: ClassVar[str] = "swap_occlusion"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = True
    sees_presence: ClassVar[bool] = True

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        members = embed_members(model, blended)
        x_ptd, mask_pt = members.x_input_ptd, members.mask_input_pt
        one_sided_pt = mask_pt ^ members.mask_baseline_pt
        moved_pt = mask_pt & (members.difference_ptd != 0).any(dim=-1)
        explained_pt = explained_tokens(model, blended.gene_ids_pt, target)

        def occluded(pair_k: Tensor, position_k: Tensor) -> tuple[Tensor, Tensor]:
            x_ktd, mask_kt = x_ptd[pair_k], mask_pt[pair_k]
            at = torch.arange(len(pair_k), device=pair_k.device), position_k
            x_ktd[at] = members.x_baseline_ptd[pair_k, position_k]
            mask_kt[at] = members.mask_baseline_pt[pair_k, position_k]
            return x_ktd, mask_kt

        f_p = self.read(model, target, x_ptd, mask_pt)
        scores_pt = self.falls(
            model,
            target,
            f_p,
            mask_pt.sum(dim=1),
            (moved_pt | one_sided_pt) & explained_pt,
            occluded,
        )
        return DirectionScores(
            scores_pt=scores_pt,
            embedding_pt=scores_pt.masked_fill(one_sided_pt, 0),
            presence_pt=scores_pt.masked_fill(~one_sided_pt, 0),
            f_input_p=f_p,
            f_baseline_p=self.read(model, target, members.x_baseline_ptd, members.mask_baseline_pt),
        )
