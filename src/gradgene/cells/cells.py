"""The noun of the ground floor: an expression matrix with its phenotypes, genes and donors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells.schema import CellSchema
from gradgene.errors import CellsError

__all__ = ["Cells", "log_normalise"]

#: Depth every cell is scaled to before log1p; the field's convention (scanpy's `target_sum=1e4`).
TARGET_SUM = 1e4


@dataclass(frozen=True)
class Cells:
    """Cells of one data set, in file order.

    Attributes
    ----------
    matrix_ng
        (cells, genes) CSR float32; counts or log-normalised values as `schema.values` says.
    obs
        One row a cell, indexed by cell name; phenotypes, donor and batch as strings or NaN.
    genes, ensembl_ids
        Names by column; Ensembl ids are "" where the file has none.
    schema
        What the columns mean.
    dropped
        Reason -> number of cells left out on reading.
    notes
        Sentences a reader of the report should know.
    """

    matrix_ng: sparse.csr_matrix
    obs: pd.DataFrame
    genes: tuple[str, ...]
    ensembl_ids: tuple[str, ...]
    schema: CellSchema
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, g = self.matrix_ng.shape
        if (n, g) != (len(self.obs), len(self.genes)) or g != len(self.ensembl_ids):
            raise CellsError(
                "matrix, obs and genes differ in size",
                expected=f"{len(self.obs)} cells x {len(self.genes)} genes",
                found=f"{n} x {g}",
            )
        twice = _repeated(self.genes)
        if twice:
            raise CellsError(
                f"{len(twice)} gene names occur more than once: {', '.join(twice[:5])}",
                where="data.gene_key",
                expected="unique gene names",
                fix="name a var column with unique ids, or call var_names_make_unique() first",
            )

    def __len__(self) -> int:
        return len(self.obs)

    def take(self, rows_n: np.ndarray) -> Cells:
        """The cells at integer positions `rows_n`, in that order."""
        return replace(self, matrix_ng=self.matrix_ng[rows_n], obs=self.obs.iloc[rows_n])

    def with_genes(self, genes: Sequence[str]) -> Cells:
        """The same cells with only `genes`, in that order; raises `CellsError` for unknown ones."""
        column_of = {name: i for i, name in enumerate(self.genes)}
        missing = [name for name in genes if name not in column_of]
        if missing:
            raise CellsError(
                f"{len(missing)} genes are not in the cells: {', '.join(missing[:5])}",
                where="data.genes",
                fix="check whether both use symbols or both use Ensembl ids (data.gene_key)",
            )
        columns = np.array([column_of[name] for name in genes], dtype=int)
        return replace(
            self,
            matrix_ng=sparse.csr_matrix(self.matrix_ng[:, columns]),
            genes=tuple(genes),
            ensembl_ids=tuple(self.ensembl_ids[i] for i in columns),
        )

    def expressed(self, threshold: float) -> sparse.csr_matrix:
        """(cells, genes) bool: values of at least `threshold`, a positive number.

        Compared in float64, as expression bins are: 0.7 in float32 lies below an edge of 0.7.
        """
        return sparse.csr_matrix(self.matrix_ng.astype(np.float64) >= threshold)

    def counts_of(self, column: str) -> dict[str, int]:
        """Label -> number of cells in an obs column, most frequent first; missing left out."""
        return {str(k): int(v) for k, v in self.obs[column].value_counts().items() if v}


@lru_cache(maxsize=16)
def _repeated(genes: tuple[str, ...]) -> tuple[str, ...]:
    """Names that occur more than once; kept, because every batch of cells has the same genes."""
    if len(set(genes)) == len(genes):
        return ()
    names = pd.Series(genes)
    return tuple(sorted(set(names[names.duplicated()])))


def log_normalise(cells: Cells) -> Cells:
    """Scale each cell's counts to 10,000 over all its genes and take log1p.

    Log-normalised cells come back unchanged; the result says `schema.values == "lognorm"`.
    """
    if cells.schema.values == "lognorm":
        return cells
    matrix_ng = cells.matrix_ng.astype(np.float64)
    depth_n = np.asarray(matrix_ng.sum(axis=1)).ravel()
    matrix_ng.data *= np.repeat(TARGET_SUM / np.maximum(depth_n, 1), np.diff(matrix_ng.indptr))
    matrix_ng.data = np.log1p(matrix_ng.data)
    return replace(
        cells,
        matrix_ng=matrix_ng.astype(np.float32),
        schema=replace(cells.schema, values="lognorm"),
    )
