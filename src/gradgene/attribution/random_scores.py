"""Random scores: the control that every method has to beat.

Formula
    score_j = Φ⁻¹(hash(seed, tokens of input, tokens of baseline, identity of token j)): standard
    normal numbers, independent between seeds, pairs, directions and genes.
Source
    The hash is the finaliser of splitmix64 (Steele, Lea and Flood 2014); a set of tokens is hashed
    as the sum of their hashes, so that their order is no part of it.
Promises
    Nothing: not complete, not symmetric, no use of what the baseline says, no presence. A score
    follows from the pair alone, so batches, padding, gene order, device and run change nothing;
    swapping the pair gives independent scores.
Use it
    Beside every ranking and every measure of faithfulness, with several seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradgene.attribution.members import embed_members, read_members
from gradgene.attribution.method import AttributionMethod, DirectionScores
from gradgene.attribution.occlusion import explained_tokens
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.seeding import GOLDEN, shifted_right, splitmix64
from gradgene.tokens import TokenBatch

__all__ = ["RandomScores"]

#: As many bits as a float64 holds exactly together with a half.
UNIFORM_BITS = 52


@dataclass(frozen=True)
class RandomScores(AttributionMethod):
    """Standard normal scores_pt for the tokens of a pair, 0 elsewhere; f is read as ever.

    Parameters
    ----------
    seed
        Another seed gives independent scores.
    """

    name: ClassVar[str] = "random"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = False
    sees_presence: ClassVar[bool] = False

    seed: int = 0

    @torch.no_grad()
    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        members = embed_members(model, blended)
        mask_i, mask_b = members.mask_input_pt, members.mask_baseline_pt
        f_i, f_b = read_members(model, "total", members, target)
        scored_pt = explained_tokens(model, blended.gene_ids_pt, target) & (mask_i | mask_b)
        normal_pt = _normal(self._hashes(blended, scored_pt))
        scores_pt = normal_pt.masked_fill(~scored_pt, 0).to(f_i.dtype)
        return DirectionScores.of_parts(scores_pt, None, f_i, f_b)

    def _hashes(self, blended: BlendedBatch, scored_pt: Tensor) -> Tensor:
        """(pairs, positions) int64, for each token of each pair."""
        position_t = torch.arange(scored_pt.shape[1], device=scored_pt.device)
        # A phenotype is known by its slot: the columns of genes are the cells' own affair.
        identity_pt = torch.where(blended.gene_ids_pt >= 0, blended.gene_ids_pt, -1 - position_t)
        seed = torch.full((len(blended),), self.seed, device=scored_pt.device)
        pair_p = _combined(seed, _content(blended.input, identity_pt, scored_pt, None))
        baseline_p = _content(blended.baseline, identity_pt, scored_pt, blended.blank_pt)
        pair_p = _combined(pair_p, baseline_p)
        return _combined(pair_p[:, None].expand_as(identity_pt), identity_pt)


def _content(
    tokens: TokenBatch, identity_pt: Tensor, scored_pt: Tensor, blank_pt: Tensor | None
) -> Tensor:
    """(pairs,) int64: a hash of the tokens, whatever their order."""
    value_pt = tokens.input_ids_nt
    if blank_pt is not None:
        value_pt = value_pt.masked_fill(blank_pt, -1)
    token_pt = _combined(identity_pt, value_pt)
    return token_pt.masked_fill(~(scored_pt & tokens.attention_mask_nt), 0).sum(dim=1)


def _combined(one: Tensor, other: Tensor) -> Tensor:
    """A hash of two integers in this order."""
    return splitmix64(splitmix64(one + GOLDEN) ^ other)


def _normal(hash_pt: Tensor) -> Tensor:
    """float64 standard normal numbers by the inverse of their distribution function."""
    uniform_pt = (shifted_right(hash_pt, 64 - UNIFORM_BITS).double() + 0.5) / 2.0**UNIFORM_BITS
    normal_pt: Tensor = torch.special.ndtri(uniform_pt)
    return normal_pt
