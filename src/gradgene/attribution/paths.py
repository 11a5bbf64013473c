"""Gradients along the straight path from a baseline to its input, presence included.

At a share α of the way a point is x_b + α (x_i - x_b), and the presence of a key is
p = m_b + α (m_i - m_b), which attention sees as the additive bias b = log p. Of a key that both
members have, or both lack, the presence is constant and its score 0; keys that both lack are masked
and never pass through the logarithm.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gradgene.attribution.members import (
    Layer,
    Members,
    embed_members,
    presence_share,
    read_at,
    read_members,
)
from gradgene.attribution.method import DirectionScores
from gradgene.attribution.target import BoundTarget
from gradgene.halving import in_halves, limit_of
from gradgene.models import AttentionCore, PhenotypeGeneTransformer
from gradgene.modes import replaced_forward
from gradgene.pairs import BlendedBatch

__all__ = ["Nodes", "PathIntegral"]

#: Positions of the points differentiated at once. On a processor a few thousand: the activations
#: of a layer then stay in its cache, and memory is not asked for anew at every step.
POSITIONS = {"cpu": 4096}
POSITIONS_ELSEWHERE = 1 << 17

#: Columns by which heads are widened to carry the bias: fused kernels of GPUs want multiples of 8.
WIDER = {"cpu": 1}
WIDER_ELSEWHERE = 8


@dataclass(frozen=True)
class Nodes:
    """Where a path is looked at: shares of the way, strictly between 0 and 1, and their weights.

    Both (nodes,) float64; weights sum to 1. A set that is its own mirror image under α → 1 - α
    makes a method symmetric.
    """

    share_k: Tensor
    weight_k: Tensor

    def __len__(self) -> int:
        return len(self.share_k)


@dataclass(frozen=True)
class PathIntegral:
    """Pairs and the scalar whose gradient is summed along their paths by the method `name`."""

    model: PhenotypeGeneTransformer
    blended: BlendedBatch
    target: BoundTarget
    layer: Layer
    name: str

    def scores(self, nodes: Nodes) -> DirectionScores:
        """Both parts of every score, in the units of f, by one gradient a node and pair.

        Embedding: difference · Σ_k w_k (∂f/∂x)_k. Presence: Δp Σ_k w_k (∂f/∂b)_k / p_k, and 0 at
        the layer "value", because that a gene is there is a fact about the gene.
        """
        members = embed_members(self.model, self.blended, self.layer)
        wide = torch.promote_types(members.difference_ptd.dtype, torch.float32)
        embedding_pt = torch.zeros_like(members.mask_input_pt, dtype=wide)
        presence_pt = torch.zeros_like(embedding_pt)
        share_k, weight_k = (x.to(embedding_pt) for x in (nodes.share_k, nodes.weight_k))
        n_pairs, length = embedding_pt.shape
        positions = POSITIONS.get(embedding_pt.device.type, POSITIONS_ELSEWHERE)
        rows = torch.arange(n_pairs * len(nodes), device=embedding_pt.device)

        def weighted(some: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pair_r, node_r = some // len(nodes), some % len(nodes)
            some_members = members.take(pair_r, _longest(members, pair_r))
            embedding_rt, presence_rt = self._at(some_members, share_k[node_r])
            weight_r1 = weight_k[node_r, None]
            return pair_r, weight_r1 * embedding_rt, weight_r1 * presence_rt

        limit = limit_of(self.model, f"{self.name}, cells")
        for some in rows.split(max(1, positions // length)):
            found = in_halves(weighted, some, lambda rows: len(rows) * length, limit)
            for pair_r, embedding_rt, presence_rt in found:
                n = embedding_rt.shape[1]
                embedding_pt[:, :n].index_add_(0, pair_r, embedding_rt)
                presence_pt[:, :n].index_add_(0, pair_r, presence_rt)
        f_i, f_b = read_members(self.model, self.layer, members, self.target)
        presence_pt = presence_share(self.layer, presence_pt)
        return DirectionScores.of_parts(embedding_pt, presence_pt, f_i, f_b)

    def _at(self, members: Members, share_r: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (rows, positions) that the gradient at one share of each row's path would give."""
        mask_i, mask_b = members.mask_input_pt, members.mask_baseline_pt
        # In float32 at least: bfloat16 rounds the last shares to 1, where p is 0 and its log not.
        x_b_rtd, x_i_rtd = members.x_baseline_ptd.to(share_r), members.x_input_ptd.to(share_r)
        x_rtd = torch.lerp(x_b_rtd, x_i_rtd, share_r[:, None, None]).to(members.x_input_ptd)
        rise_rt = mask_i.to(share_r) - mask_b.to(share_r)
        p_rt = torch.lerp(mask_b.to(share_r), mask_i.to(share_r), share_r[:, None])
        p_rt = p_rt.masked_fill(~(mask_i | mask_b), 1)
        bias_rt = p_rt.log()
        wanted = [x_rtd.requires_grad_(True), bias_rt.requires_grad_(True)]
        with ExitStack() as stack:
            # Without a gene of one member only there is no bias, and the model is right as it is.
            for module in self.model.modules() if bool(rise_rt.any()) else ():
                if isinstance(module, AttentionCore):
                    stack.enter_context(replaced_forward(module, partial(_attend, bias_rt)))
            f_r = read_at(self.model, self.layer, x_rtd, mask_i | mask_b, self.target)
            # Materialised: a model without attention leaves the bias out.
            g_x_rtd, g_b_rt = torch.autograd.grad(f_r.sum(), wanted, materialize_grads=True)
        embedding_rt = (g_x_rtd * members.difference_ptd).sum(dim=-1, dtype=share_r.dtype)
        return embedding_rt, rise_rt * g_b_rt / p_rt


def _longest(members: Members, pair_r: Tensor) -> int:
    """Positions up to the last token of any of these pairs: those behind cost time for nothing."""
    some_pt = members.mask_input_pt[pair_r] | members.mask_baseline_pt[pair_r]
    return 1 + int(some_pt.any(dim=0).nonzero().max())


def _attend(bias_nt: Tensor, q: Tensor, k: Tensor, v: Tensor, mask_nt: Tensor) -> Tensor:
    """softmax(q kᵀ / √d + bias) v, with a gradient of the bias (cells, keys).

    Fused kernels give no gradient of an additive mask, so the bias travels as one more column of
    the keys, which meets √d in every query. A single query needs no kernel.
    """
    mask = None if bool(mask_nt.all()) else mask_nt[:, None, None, :]
    bias_nt = bias_nt.to(q.dtype)
    if q.shape[2] == 1:
        bias = bias_nt.masked_fill(~mask_nt, -math.inf)[:, None, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    n, heads, _, dim = q.shape
    extra, root = WIDER.get(q.device.type, WIDER_ELSEWHERE), math.sqrt(dim)
    bias_nht1 = bias_nt[:, None, :, None].expand(n, heads, -1, 1)
    wide_q = F.pad(F.pad(q, (0, 1), value=root), (0, extra - 1))
    wide_k = F.pad(torch.cat([k, bias_nht1], dim=-1), (0, extra - 1))
    wide_v = F.pad(v, (0, extra))
    out = F.scaled_dot_product_attention(wide_q, wide_k, wide_v, attn_mask=mask, scale=1 / root)
    return out[..., :dim]
