"""Cells in memory behind the face of `CellShards`, and what a stream served of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch

from gradgene.cells import Cells
from gradgene.lit.streaming import SeededTokens
from gradgene.tokens import TokenBatch

__all__ = ["CellsInMemory", "padding", "same", "served"]


@dataclass
class CellsInMemory:
    """Notes which rows were read; fails if told to."""

    cells: Cells
    reads: list[np.ndarray] = field(default_factory=list)

    @property
    def nnz_n(self) -> np.ndarray:
        """(cells,) stored entries."""
        return np.diff(self.cells.matrix_ng.indptr)

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, rows_n: np.ndarray) -> Cells:
        """The cells at these positions."""
        self.reads.append(np.asarray(rows_n))
        return self.cells.take(rows_n)


def served(batches: Iterable[SeededTokens]) -> list[int]:
    """The cell each served sequence is of, told by its genes: planted cells differ in them."""
    return [
        hash(tuple(genes[genes >= 0].tolist())) for b in batches for genes in b.tokens.gene_ids_nt
    ]


def padding(batches: Iterable[SeededTokens]) -> float:
    """Share of positions without a token."""
    masks = [b.tokens.attention_mask_nt for b in batches]
    return 1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def same(a: SeededTokens, b: SeededTokens) -> bool:
    """Whether two batches are equal in everything."""
    tensors: list[tuple[TokenBatch, TokenBatch]] = [(a.tokens, b.tokens)]
    return torch.equal(a.seeds_n, b.seeds_n) and all(
        torch.equal(x.tensors()[k], y.tensors()[k]) for x, y in tensors for k in x.tensors()
    )
