"""Remove occlusion: what f loses when one token of the input is deleted.

Formula
    score_j = f(input) - f(input without token j); positive speaks for the explained label. No
    other gene takes its place and no rank or count changes. A deletion is the absence of a token,
    so the whole score is presence and the embedding part is 0.
Source
    In-silico deletion as Geneformer does it (Theodoris et al. 2023), read at the masked target
    instead of the shift of an embedding; spec 0 §6.
Promises
    Sees presence of the input's tokens, and no baseline at all: genes that the input lacks score
    exactly 0, and the scores are the same against any baseline. Neither complete nor symmetric.
    Against the empty baseline its gene scores are those of `swap_occlusion`.
Use it
    For questions about deleting a gene, not about how two cells differ. It runs the model once for
    every token of a distinct cell, however many baselines that cell has. A score is the difference
    of two readings, so with bfloat16 weights much of a small one is rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradgene.attribution.distinct import distinct_cells, members_of
from gradgene.attribution.members import embed_members
from gradgene.attribution.method import DirectionScores
from gradgene.attribution.occlusion import Occlusion, explained_tokens
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch

__all__ = ["RemoveOcclusion"]


@dataclass(frozen=True)
class RemoveOcclusion(Occlusion):
    """One token of the input deleted at a time; scores_pt in the units of f.

    Raises `AttributionError` if `forward_tokens` is not positive.
    """

    name: ClassVar[str] = "remove_occlusion"
    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    needs_baseline: ClassVar[bool] = False
    sees_presence: ClassVar[bool] = True
    per_cell: ClassVar[bool] = True

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input; the target is already masked."""
        member, _ = members_of(blended)
        cells, (cell_p,) = distinct_cells(blended.cells, [member])
        f_n, falls_nt = self._deletions(model, cells.tokens, target)
        place_pt = cells.places_nc[cell_p[:, None], member.columns_pt.clamp(min=0)]
        scores_pt = falls_nt[cell_p[:, None], place_pt.clamp(min=0)]
        scores_pt = scores_pt.masked_fill(~member.mask_pt, 0)
        members = embed_members(model, blended)
        return DirectionScores(
            scores_pt=scores_pt,
            embedding_pt=torch.zeros_like(scores_pt),
            presence_pt=scores_pt,
            f_input_p=f_n[cell_p],
            f_baseline_p=self.read(model, target, members.x_baseline_ptd, members.mask_baseline_pt),
        )

    @torch.no_grad()
    def _deletions(
        self, model: PhenotypeGeneTransformer, cells: TokenBatch, target: BoundTarget
    ) -> tuple[Tensor, Tensor]:
        """f (cells,) and its fall (cells, tokens) when a token of a cell is deleted."""
        x_ntd, mask_nt = model.embed(cells), cells.attention_mask_nt
        positions = torch.arange(mask_nt.shape[1], device=mask_nt.device)

        def occluded(cell_k: Tensor, position_k: Tensor) -> tuple[Tensor, Tensor]:
            return x_ntd[cell_k], mask_nt[cell_k] & (positions != position_k[:, None])

        f_n = self.read(model, target, x_ntd, mask_nt)
        changes_nt = mask_nt & explained_tokens(model, cells.gene_ids_nt, target)
        return f_n, self.falls(model, target, f_n, mask_nt.sum(dim=1), changes_nt, occluded)
