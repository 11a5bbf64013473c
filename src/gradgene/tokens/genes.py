"""Genes of cells as tokens: which column is which gene, and which genes a sequence holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import sparse

from gradgene.cells import Cells, strip_version
from gradgene.errors import TokenError
from gradgene.tokens.bins import Bins
from gradgene.tokens.layout import Genes

__all__ = ["GeneMatch", "GeneTokens", "gene_tokens", "match_genes", "reorder_genes"]


@dataclass(frozen=True)
class GeneTokens:
    """Genes of a batch of cells, cell by cell, in the order of their ids.

    Attributes
    ----------
    gene, value
        (tokens,) index of the gene and its bin.
    n_n
        (cells,) int64: number of tokens of each cell.
    """

    gene: np.ndarray
    value: np.ndarray
    n_n: np.ndarray

    def only(self, kept: np.ndarray) -> GeneTokens:
        """The tokens where `kept` (tokens,) is True."""
        at = np.flatnonzero(kept)  # far quicker to take by than the flags are
        n_before_n = np.searchsorted(at, np.cumsum(self.n_n))
        return GeneTokens(self.gene[at], self.value[at], np.diff(n_before_n, prepend=0))

    def first(self, limit: int) -> GeneTokens:
        """The first `limit` tokens of every cell."""
        if not (self.n_n > limit).any():
            return self
        start_n = np.cumsum(self.n_n) - self.n_n
        return self.only(np.arange(self.gene.size) - np.repeat(start_n, self.n_n) < limit)


def gene_tokens(matrix_ng: sparse.csr_matrix, bins: Bins, genes: Genes) -> GeneTokens:
    """The genes of cells (cells, genes) that a layout shows, as `Layout.genes` says."""
    if not matrix_ng.has_sorted_indices:
        matrix_ng = matrix_ng.sorted_indices()
    value = bins.assign(matrix_ng)
    n, n_genes = matrix_ng.shape
    if genes == "all":
        dense_ng = sparse.csr_matrix((value, matrix_ng.indices, matrix_ng.indptr), (n, n_genes))
        every = np.tile(np.arange(n_genes), n)
        return GeneTokens(every, dense_ng.toarray().ravel(), np.full(n, n_genes))
    stored = GeneTokens(matrix_ng.indices, value, np.diff(matrix_ng.indptr).astype(np.int64))
    if genes == "stored" or value.all():
        return stored
    return stored.only(value > 0)


@dataclass(frozen=True)
class GeneMatch:
    """Which columns of cells are which genes of a vocabulary.

    Attributes
    ----------
    index_g
        (columns of the cells,) the position of each in the vocabulary; -1 where it is unknown.
    ensembl_ids
        By position in the vocabulary; "" where the cells have none.
    note
        How many genes were found, and by what.
    """

    index_g: np.ndarray
    ensembl_ids: tuple[str, ...]
    note: str


@lru_cache(maxsize=8)  # a stream of batches asks for the same match again and again
def match_genes(
    wanted: tuple[str, ...], genes: tuple[str, ...], ensembl_ids: tuple[str, ...]
) -> GeneMatch:
    """Find the genes `wanted` among the columns of cells, by name or by Ensembl id.

    Raises
    ------
    TokenError
        If none is found, or two columns are the same gene.
    """
    known = {strip_version(gene): i for i, gene in enumerate(wanted)}
    found = {
        kind: np.array([known.get(strip_version(name), -1) for name in names], dtype=np.int64)
        for kind, names in (("name", genes), ("Ensembl id", ensembl_ids))
    }
    kind = max(found, key=lambda k: int((found[k] >= 0).sum()))
    columns = np.flatnonzero(found[kind] >= 0)
    index = found[kind][columns]
    if not columns.size:
        raise TokenError(
            "no gene of the cells is in the vocabulary",
            expected=f"names such as {', '.join(wanted[:3])}",
            found=", ".join(genes[:3]),
            fix="set data.gene_key to the column with the model's kind of gene name",
        )
    times_g = np.bincount(index, minlength=len(wanted))
    if times_g.max() > 1:
        twice = [wanted[i] for i in np.flatnonzero(times_g > 1)]
        raise TokenError(
            f"{len(twice)} genes of the vocabulary are in several columns: {', '.join(twice[:5])}",
            where="data.gene_key",
            fix="keep one column of each gene",
        )
    ensembl = np.full(len(wanted), "", dtype=object)
    ensembl[index] = [ensembl_ids[column] for column in columns]
    note = f"{columns.size} of the model's {len(wanted)} genes are in the cells (by {kind})"
    return GeneMatch(found[kind], tuple(ensembl), note)


def reorder_genes(cells: Cells, genes: tuple[str, ...], match: GeneMatch) -> Cells:
    """Columns of `cells` moved to the positions of `genes`; absent ones are zero."""
    given = cells.matrix_ng
    gene = match.index_g[given.indices]
    known = np.flatnonzero(gene >= 0)
    indptr = np.searchsorted(known, given.indptr)
    moved = sparse.csr_matrix((given.data[known], gene[known], indptr), (len(cells), len(genes)))
    moved.sort_indices()
    return replace(
        cells,
        matrix_ng=moved,
        genes=genes,
        ensembl_ids=match.ensembl_ids,
        notes=(*cells.notes, match.note),
    )
