"""The distinct cells that the members of blended pairs are, on compact sequences (spec 0 §5).

Without positions a model reads the same in a blended cell and in its own tokens alone, so what is
computed of a cell holds for every pair that has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.attribution.members import Layer, embed_tokens
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch, length_batches

__all__ = ["DistinctCells", "Member", "distinct_cells", "members_of"]

#: A token is absent, there, or there with a zero embedding; so many of these fit into an integer.
BITS, CODES = 2, 31


@dataclass(frozen=True)
class Member:
    """One side of blended pairs: which tokens of which cell each pair shows.

    Attributes
    ----------
    rows_p, columns_pt
        As in `BlendedBatch`: the row of its `cells`, and the column at each position or -1.
    mask_pt
        bool: where a token is attended to.
    blank_pt
        bool: where its embedding is zero; None for nowhere.
    """

    rows_p: Tensor
    columns_pt: Tensor
    mask_pt: Tensor
    blank_pt: Tensor | None = None

    def states_pc(self, n_columns: int) -> Tensor:
        """(pairs, columns) uint8: 0 where a token of the cell is absent, 1 there, 3 and zero."""
        state_pt = self.mask_pt.to(torch.uint8)
        if self.blank_pt is not None:
            state_pt = state_pt + 2 * (self.blank_pt & self.mask_pt).to(torch.uint8)
        # Positions without a column go to one of their own, in front of all.
        states = state_pt.new_zeros(len(state_pt), 1 + n_columns)
        return states.scatter_(1, self.columns_pt + 1, state_pt)[:, 1:]


def members_of(blended: BlendedBatch) -> tuple[Member, Member]:
    """The input and the baseline of blended pairs."""
    return (
        Member(blended.input_rows_p, blended.input_columns_pt, blended.input.attention_mask_nt),
        Member(
            blended.baseline_rows_p,
            blended.baseline_columns_pt,
            blended.baseline.attention_mask_nt,
            blended.blank_pt,
        ),
    )


@dataclass(frozen=True)
class DistinctCells:
    """Cells, whole or in part, each once.

    Attributes
    ----------
    tokens
        (cells, tokens) what is attended to, without gaps.
    blank_nt
        bool: where the embedding is zero.
    places_nc
        int64: where the token of each column of the batch's cells is; meaningless for absent ones.
    """

    tokens: TokenBatch
    blank_nt: Tensor
    places_nc: Tensor

    def batches(self, rows: Tensor, n_tokens: int) -> Iterator[Tensor]:
        """`rows` in batches of similar length and at most `n_tokens` padded tokens."""
        for batch in length_batches(self.tokens.n_tokens_n[rows], n_tokens):
            yield rows[batch.to(rows.device)]

    @torch.no_grad()
    def embed(
        self, model: PhenotypeGeneTransformer, rows: Tensor, layer: Layer
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points of some cells, the layer's share in them, (rows, tokens, dim), and their mask."""
        tokens = self.tokens.take(rows)
        blank_nt1 = self.blank_nt[rows, : tokens.input_ids_nt.shape[1], None]
        x_ntd, part_ntd = embed_tokens(model, tokens, layer)
        x_ntd = torch.where(blank_nt1, x_ntd - part_ntd, x_ntd)
        return x_ntd, part_ntd.masked_fill(blank_nt1, 0), tokens.attention_mask_nt


def distinct_cells(cells: TokenBatch, members: list[Member]) -> tuple[DistinctCells, list[Tensor]]:
    """What the members of pairs over `cells` are, each once, and for each member which (pairs,)."""
    n_columns = cells.input_ids_nt.shape[1]
    rows_m = torch.cat([member.rows_p for member in members])
    states = [member.states_pc(n_columns) for member in members]
    states_mc = torch.cat(states)
    keys = torch.cat([rows_m[:, None], torch.cat([_packed(x) for x in states])], dim=1)
    distinct, of_m = keys.unique(dim=0, return_inverse=True)
    # Any member that is such a cell can stand for it.
    first_n = torch.empty(len(distinct), dtype=torch.int64, device=rows_m.device)
    first_n[of_m] = torch.arange(len(of_m), device=rows_m.device)
    states_nc = states_mc[first_n]
    taken = cells.take(rows_m[first_n])
    there_nc = states_nc > 0
    tokens = taken.keep(there_nc[:, : taken.input_ids_nt.shape[1]])
    length = tokens.input_ids_nt.shape[1]
    places_nc = there_nc.cumsum(dim=1) - 1
    # What is absent is written behind the end.
    blank = torch.zeros(len(distinct), length + 1, dtype=torch.bool, device=rows_m.device)
    blank.scatter_(1, places_nc.masked_fill(~there_nc, length), states_nc == 3)
    found = DistinctCells(tokens=tokens, blank_nt=blank[:, :length], places_nc=places_nc)
    return found, list(of_m.split([len(member.rows_p) for member in members]))


def _packed(states_pc: Tensor) -> Tensor:
    """Rows of small numbers as few integers, equal if and only if the rows are."""
    n_words = -(-states_pc.shape[1] // CODES)
    padded = torch.nn.functional.pad(states_pc, (0, n_words * CODES - states_pc.shape[1]))
    shifts = BITS * torch.arange(CODES, device=states_pc.device)
    words_pw: Tensor = (padded.unflatten(1, (n_words, CODES)).long() << shifts).sum(dim=2)
    return words_pw
