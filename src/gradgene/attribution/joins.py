"""Bring the gradients of a few cells to the pairs whose input they are (spec 0 §5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.attribution.distinct import DistinctCells
from gradgene.attribution.members import Layer, embed_tokens
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch

__all__ = ["CellGradients"]

#: Numbers in each of the few tensors of a join: 4 MB of float32, which stay in the cache.
CHUNK = 1 << 20


@dataclass(frozen=True)
class CellGradients:
    """What a model's work on a few distinct cells gave, to be shared by their pairs.

    Attributes
    ----------
    cells, rows
        All distinct cells, and which of them these are.
    gradient_ntd
        (rows, tokens, dim) gradient of f at the points of the layer's space.
    part_ntd
        The layer's share in the points.
    """

    cells: DistinctCells
    rows: Tensor
    gradient_ntd: Tensor
    part_ntd: Tensor

    @torch.no_grad()
    def products(self, blended: BlendedBatch, inputs_p: Tensor, scores_pt: Tensor) -> None:
        """Write g · part_I where the inputs have tokens, for the pairs whose input is here.

        `inputs_p` (pairs,) says which distinct cell each input is.
        """
        own_k = (self.gradient_ntd * self.part_ntd).sum(dim=-1).flatten()
        pairs_m, place_mt = self._places(blended, inputs_p)
        scores_pt[pairs_m] = own_k[place_mt.clamp(min=0)].masked_fill(place_mt < 0, 0)

    @torch.no_grad()
    def differences(
        self,
        model: PhenotypeGeneTransformer,
        layer: Layer,
        blended: BlendedBatch,
        inputs_p: Tensor,
        scores_pt: Tensor,
    ) -> None:
        """Write g · (part_I - part_B) likewise; where the tokens are the same it is exactly 0.

        Where the baseline has no token its part is that of `[PAD]`, which makes the product one of
        the cell. The other parts of all pairs would be pairs x positions x dim, so they come in
        chunks.
        """
        pairs_m, place_mt = self._places(blended, inputs_p)
        shown, other = blended.input, blended.baseline
        ids_mt, types_mt = other.input_ids_nt[pairs_m], other.token_type_ids_nt[pairs_m]
        same_mt = (shown.input_ids_nt[pairs_m] == ids_mt) & (
            shown.token_type_ids_nt[pairs_m] == types_mt
        )
        lacks_mt = blended.baseline_columns_pt[pairs_m] < 0
        if blended.blank_pt is not None:
            blank_mt = blended.blank_pt[pairs_m]
            same_mt, lacks_mt = same_mt & ~blank_mt, lacks_mt & ~blank_mt
        padding = torch.tensor([other.pad_id], device=ids_mt.device)
        padding_1d = _parts(model, layer, padding, torch.zeros_like(padding))
        alone_k = (self.gradient_ntd * (self.part_ntd - padding_1d)).sum(dim=-1).flatten()
        alone_mt = lacks_mt & (place_mt >= 0)
        scores_mt = alone_k[place_mt.clamp(min=0)].masked_fill(~alone_mt, 0)
        gathered_mt = (place_mt >= 0) & ~lacks_mt & ~same_mt
        row_k, t_k = gathered_mt.nonzero(as_tuple=True)
        gradient_kd, part_kd = self.gradient_ntd.flatten(0, 1), self.part_ntd.flatten(0, 1)
        step = max(1, CHUNK // part_kd.shape[1])
        for m, t in zip(row_k.split(step), t_k.split(step), strict=True):
            place_c = place_mt[m, t]
            part_cd = _parts(model, layer, ids_mt[m, t], types_mt[m, t])
            if blended.blank_pt is not None:
                part_cd = part_cd.masked_fill(blank_mt[m, t, None], 0)
            difference_cd = part_kd.index_select(0, place_c) - part_cd
            scores_mt[m, t] = (gradient_kd.index_select(0, place_c) * difference_cd).sum(dim=-1)
        scores_pt[pairs_m] = scores_mt

    def _places(self, blended: BlendedBatch, inputs_p: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs with these inputs, and where each position is among all their tokens, or -1."""
        at_n = torch.full((len(self.cells.tokens),), -1, device=self.rows.device)
        at_n[self.rows] = torch.arange(len(self.rows), device=self.rows.device)
        pairs_m = (at_n[inputs_p] >= 0).nonzero()[:, 0]
        inputs_m, columns_mt = inputs_p[pairs_m], blended.input_columns_pt[pairs_m]
        place_mt = self.cells.places_nc[inputs_m[:, None], columns_mt.clamp(min=0)]
        place_mt = place_mt + at_n[inputs_m][:, None] * self.gradient_ntd.shape[1]
        there_mt = (columns_mt >= 0) & blended.input.attention_mask_nt[pairs_m]
        return pairs_m, place_mt.masked_fill(~there_mt, -1)


def _parts(model: PhenotypeGeneTransformer, layer: Layer, ids_k: Tensor, types_k: Tensor) -> Tensor:
    """The layer's share in single tokens (tokens, dim)."""
    ids_1k, types_1k = ids_k[None], types_k[None]
    there = torch.ones_like(ids_1k, dtype=torch.bool)
    tokens = TokenBatch(ids_1k, types_1k, there, torch.full_like(ids_1k, -1))
    return embed_tokens(model, tokens, layer)[1][0]
