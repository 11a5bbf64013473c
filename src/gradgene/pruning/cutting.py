"""Many cuts of the same cells: which tokens are left in each, and which cuts are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from gradgene.errors import RankingError
from gradgene.pruning.settings import Removal
from gradgene.tokens import TokenBatch

__all__ = ["CellCuts", "Cuts"]

#: Positions looked at together where cuts are compared: what bounds the memory of it.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Cuts:
    """Cuts of cells by orders of genes, one entry a cut; all int64.

    Attributes
    ----------
    row_v
        The cell.
    order_v
        The order of genes.
    low_v, high_v
        Genes in the places low … high - 1 of the order are left.
    """

    row_v: Tensor
    order_v: Tensor
    low_v: Tensor
    high_v: Tensor

    def __len__(self) -> int:
        return len(self.row_v)

    def take(self, at_v: Tensor) -> Cuts:
        """The cuts at these positions."""
        return Cuts(*(getattr(self, f.name)[at_v] for f in fields(self)))

    def to(self, device: torch.device | str) -> Cuts:
        """The same cuts on another device."""
        return Cuts(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class CellCuts:
    """Cells that are cut in many ways without being tokenised again.

    Parameters
    ----------
    tokens
        The cells, whole and compact.
    place_og
        (orders, genes) int32: the place of each gene in each order, from 0 for the best.
    removal
        "delete" or "mask".
    mask_id
        Input id of `[MASK]`.

    Raises
    ------
    RankingError
        If the orders lack a gene of the cells.
    """

    tokens: TokenBatch
    place_og: Tensor
    removal: Removal
    mask_id: int

    def __post_init__(self) -> None:
        n_genes = self.place_og.shape[1]
        if len(self.tokens) and int(self.tokens.gene_ids_nt.max()) >= n_genes:
            raise RankingError("an order lacks genes of the cells", found=f"{n_genes} genes")

    def to(self, device: torch.device | str) -> CellCuts:
        """The same on another device."""
        place_og = self.place_og.to(device)
        return CellCuts(self.tokens.to(device), place_og, self.removal, self.mask_id)

    def left(self, cuts: Cuts, width: int) -> Tensor:
        """(cuts, width) bool: the tokens that are left; what is no gene always is."""
        genes_vt = self.tokens.gene_ids_nt[cuts.row_v, :width]
        place_vt = self.place_og[cuts.order_v[:, None], genes_vt.clamp(min=0)]
        left_vt = (place_vt >= cuts.low_v[:, None]) & (place_vt < cuts.high_v[:, None])
        left_vt |= genes_vt < 0
        return left_vt & self.tokens.attention_mask_nt[cuts.row_v, :width]

    def show(self, cuts: Cuts) -> TokenBatch:
        """The cells as they look after the cuts, trimmed to the longest."""
        tokens = self.tokens
        width = int(tokens.n_tokens_n[cuts.row_v].max()) if len(cuts) else 0
        left_vt = self.left(cuts, width)
        whole = {name: x[cuts.row_v, :width] for name, x in tokens.tensors().items()}
        if self.removal == "mask":
            hidden_vt = whole["attention_mask_nt"] & ~left_vt
            whole["input_ids_nt"] = whole["input_ids_nt"].masked_fill(hidden_vt, self.mask_id)
            return TokenBatch(**whole, pad_id=tokens.pad_id)
        n_v = left_vt.sum(dim=1)
        length = int(n_v.max()) if len(cuts) else 0
        there_vl = torch.arange(length, device=n_v.device) < n_v[:, None]
        # What is left of each row is moved to its front: both sides are read row by row.
        empty = {"input_ids_nt": tokens.pad_id, "token_type_ids_nt": 0, "gene_ids_nt": -1}
        moved = {"attention_mask_nt": there_vl}
        for name, nothing in empty.items():
            moved[name] = torch.full_like(there_vl, nothing, dtype=torch.int64)
            moved[name][there_vl] = whole[name][left_vt]
        return TokenBatch(**moved, pad_id=tokens.pad_id)

    def n_tokens(self, cuts: Cuts) -> Tensor:
        """(cuts,) int64: tokens of each cell as a model reads it after the cut."""
        if self.removal == "mask" or not len(cuts):
            return self.tokens.n_tokens_n[cuts.row_v]
        return torch.cat([left_vt.sum(dim=1) for left_vt in self._all_left(cuts)])

    def distinct(self, cuts: Cuts) -> tuple[Tensor, Tensor]:
        """Positions of cuts that differ from all before, and which of them each cut equals.

        Cuts of a cell are equal where the same of its tokens are left, whatever orders they are
        made by. Sets are compared by their sums of random 64-bit numbers, one a gene: of a million
        cuts of one cell two different ones are taken for equal with a probability of 3e-8.
        """
        n_genes = self.place_og.shape[1]
        drawn = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, n_genes + 1)
        drawn[-1] = 0  # of what is no gene
        code_g = torch.from_numpy(drawn)
        found, start = [], 0
        for left_vt in self._all_left(cuts):
            row_v = cuts.row_v[start : start + len(left_vt)]
            code_vt = code_g[self.tokens.gene_ids_nt[row_v, : left_vt.shape[1]]]
            found.append((code_vt * left_vt).sum(dim=1))
            start += len(left_vt)
        if not found:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        keys = np.stack([cuts.row_v.numpy(), torch.cat(found).numpy()], axis=1)
        packed = np.ascontiguousarray(keys).view([("row", np.int64), ("code", np.int64)])[:, 0]
        _, first, which = np.unique(packed, return_index=True, return_inverse=True)
        # In the order in which they are met, so that the result does not depend on the codes.
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return torch.from_numpy(first[order]), torch.from_numpy(rank[which.ravel()])

    def digest(self, cuts: Cuts, tokens: str | None = None) -> str:
        """Thirty-two hex digits of cells, orders and cuts; of the cells' tokens, if it is known."""
        tokens = self.tokens_digest() if tokens is None else tokens
        arrays = (self.place_og, *(getattr(cuts, f.name) for f in fields(cuts)))
        return _digest(f"{self.removal} {self.mask_id} {tokens}", arrays)[:32]

    def tokens_digest(self) -> str:
        """Hash of the whole cells."""
        return _digest("", self.tokens.tensors().values())

    def _all_left(self, cuts: Cuts) -> Iterator[Tensor]:
        """`left` of all cuts, some at a time."""
        width = self.tokens.input_ids_nt.shape[1]
        step = max(1, CHUNK // max(width, 1))
        for start in range(0, len(cuts), step):
            some = cuts.take(torch.arange(start, min(start + step, len(cuts))))
            yield self.left(some, width)


def _digest(said: str, arrays: Iterable[Tensor]) -> str:
    found = hashlib.sha256(said.encode())
    for array in arrays:
        found.update(str(tuple(array.shape)).encode())
        found.update(np.ascontiguousarray(array.numpy(force=True)).data)
    return found.hexdigest()
