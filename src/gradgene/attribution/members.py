"""Both members of blended pairs as embeddings of a layer: what methods differentiate and mix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch

__all__ = [
    "Layer",
    "Members",
    "embed_members",
    "embed_tokens",
    "logits_at",
    "presence_share",
    "read_at",
    "read_members",
]

#: Where scores are read: the normalised sum of both embeddings, or the share that the value (bin,
#: label) or the identity (gene, category) has in it.
Layer = Literal["total", "value", "identity"]


@dataclass(frozen=True)
class Members:
    """Pairs as points of a layer's space, on common positions.

    For the layers "value" and "identity" a point is the sum of both embeddings before its norm, so
    that the scores of the two layers add up to those of a complete method at that point. That a
    token is there at all is its identity's doing: presence goes with "identity" and is zero for
    "value".

    Attributes
    ----------
    x_input_ptd, x_baseline_ptd
        (pairs, positions, dim) the points; multipliers and gradients are taken of these.
    difference_ptd
        The layer's own share of `x_input - x_baseline`; all of it for "total".
    mask_input_pt, mask_baseline_pt
        bool: where the member has a token.
    """

    x_input_ptd: Tensor
    x_baseline_ptd: Tensor
    difference_ptd: Tensor
    mask_input_pt: Tensor
    mask_baseline_pt: Tensor

    def __len__(self) -> int:
        return len(self.mask_input_pt)

    def take(self, rows: Tensor, length: int | None = None) -> Members:
        """The pairs at these positions, in this order; with `length` only that many positions."""
        return Members(**{name: x[rows, :length] for name, x in vars(self).items()})

    def mixed(self, from_baseline_pt: Tensor) -> tuple[Tensor, Tensor]:
        """The input with the baseline's state at some positions: points and mask.

        A position whose gene the baseline lacks loses its token, one that only the baseline has
        gains it.
        """
        return (
            torch.where(from_baseline_pt[..., None], self.x_baseline_ptd, self.x_input_ptd),
            torch.where(from_baseline_pt, self.mask_baseline_pt, self.mask_input_pt),
        )


@torch.no_grad()
def embed_members(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, layer: Layer = "total"
) -> Members:
    """Embed both members of every pair; nothing requires grad yet."""
    x_input, part_input = embed_tokens(model, blended.input, layer)
    x_baseline, part_baseline = embed_tokens(model, blended.baseline, layer)
    if blended.blank_pt is not None:
        blank_pt1 = blended.blank_pt[..., None]
        x_baseline = torch.where(blank_pt1, x_baseline - part_baseline, x_baseline)
        part_baseline = part_baseline.masked_fill(blank_pt1, 0)
    return Members(
        x_input_ptd=x_input,
        x_baseline_ptd=x_baseline,
        difference_ptd=part_input - part_baseline,
        mask_input_pt=blended.input.attention_mask_nt,
        mask_baseline_pt=blended.baseline.attention_mask_nt,
    )


def embed_tokens(
    model: PhenotypeGeneTransformer, tokens: TokenBatch, layer: Layer
) -> tuple[Tensor, Tensor]:
    """Points of the layer's space and the layer's share in them, each (cells, tokens, dim)."""
    if layer == "total":
        x_ntd = model.embed(tokens)
        return x_ntd, x_ntd
    value_ntd, identity_ntd = model.embed_parts(tokens)
    return value_ntd + identity_ntd, value_ntd if layer == "value" else identity_ntd


def logits_at(
    model: PhenotypeGeneTransformer, layer: Layer, x_ntd: Tensor, mask_nt: Tensor, category: str
) -> Tensor:
    """Logits (cells, input ids) at the slot of `category` for points of the layer's space."""
    total_ntd = x_ntd if layer == "total" else model.embedding_norm(x_ntd)
    return model.read(total_ntd, mask_nt, category)


def read_at(
    model: PhenotypeGeneTransformer,
    layer: Layer,
    x_ntd: Tensor,
    mask_nt: Tensor,
    target: BoundTarget,
) -> Tensor:
    """f (cells,) for points of the layer's space."""
    return target.read(logits_at(model, layer, x_ntd, mask_nt, target.category))


@torch.no_grad()
def read_members(
    model: PhenotypeGeneTransformer, layer: Layer, members: Members, target: BoundTarget
) -> tuple[Tensor, Tensor]:
    """f (pairs,) of the inputs and of the baselines, each with its own mask; no gradient."""
    return (
        read_at(model, layer, members.x_input_ptd, members.mask_input_pt, target),
        read_at(model, layer, members.x_baseline_ptd, members.mask_baseline_pt, target),
    )


def presence_share(layer: Layer, presence_pt: Tensor) -> Tensor:
    """The layer's share of presence: none at "value", as that a gene is there is its identity."""
    return torch.zeros_like(presence_pt) if layer == "value" else presence_pt
