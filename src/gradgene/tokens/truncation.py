"""Which genes of a long cell are kept, and how much that leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from gradgene.cells import Cells
from gradgene.seeding import splitmix64

__all__ = ["TruncationReport", "lowest_of_each", "truncate"]


@dataclass(frozen=True)
class TruncationReport:
    """What a limit on the number of genes of a cell leaves out.

    Attributes
    ----------
    n_cells, n_cut
        Cells, and those among them that lose genes.
    n_genes, n_dropped
        Gene tokens of all cells before the cut, and those among them that are left out.
    """

    n_cells: int
    n_cut: int
    n_genes: int
    n_dropped: int

    @classmethod
    def of(cls, n_genes_n: np.ndarray, limit: int | None) -> TruncationReport:
        """Of `n_genes_n` (cells,) gene tokens cut to at most `limit` a cell (None: none is)."""
        over_n = np.zeros_like(n_genes_n) if limit is None else np.maximum(n_genes_n - limit, 0)
        return cls(len(n_genes_n), int((over_n > 0).sum()), int(n_genes_n.sum()), int(over_n.sum()))

    def __str__(self) -> str:
        share = self.n_dropped / max(self.n_genes, 1)
        return (
            f"{self.n_cut} of {self.n_cells} cells are cut: {self.n_dropped} of {self.n_genes} "
            f"gene tokens ({share:.1%}) are left out"
        )


def truncate(
    cells: Cells, max_genes: int, threshold: float, seed: int
) -> tuple[Cells, TruncationReport]:
    """Leave at most `max_genes` expressed genes in every cell.

    Which ones is a uniform draw that depends on `seed` and the name of the cell alone, not on the
    cells it comes with. `threshold` is the lowest expressed value.
    """
    matrix_ng = cells.matrix_ng
    expressed = matrix_ng.data.astype(np.float64) >= threshold
    row = np.repeat(np.arange(len(cells)), np.diff(matrix_ng.indptr))
    n_n = np.bincount(row[expressed], minlength=len(cells))
    draw = _draw(cells.obs.index, row[expressed], matrix_ng.indices[expressed], seed)
    kept = ~expressed
    kept[expressed] = lowest_of_each(draw, n_n, max_genes)
    cut_ng = sparse.csr_matrix(
        (matrix_ng.data[kept], (row[kept], matrix_ng.indices[kept])), shape=matrix_ng.shape
    )
    return replace(cells, matrix_ng=cut_ng), TruncationReport.of(n_n, max_genes)


def lowest_of_each(value: np.ndarray, n_n: np.ndarray, limit: int) -> np.ndarray:
    """bool: is an entry among the `limit` lowest of its cell; cells follow each other."""
    kept = np.ones(value.size, dtype=bool)
    start_n = np.cumsum(n_n) - n_n
    for i in np.flatnonzero(n_n > limit):
        mine = slice(start_n[i], start_n[i] + n_n[i])
        kept[start_n[i] + np.argpartition(value[mine], limit)[limit:]] = False
    return kept


def _draw(names: pd.Index, row: np.ndarray, gene: np.ndarray, seed: int) -> np.ndarray:
    """A number of uniform bits for each (seed, cell name, gene): SplitMix64 of all three."""
    cell_n = pd.util.hash_array(names.astype(str).to_numpy(dtype=object), categorize=False)
    bits = cell_n[row] ^ np.uint64(seed * 0xD1342543DE82EF95 % 2**64)
    bits = bits + gene.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    draw: np.ndarray = splitmix64(torch.from_numpy(bits.view(np.int64))).numpy().view(np.uint64)
    return draw
