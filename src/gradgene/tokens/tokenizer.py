"""Cells to tokens, vectorised over a batch straight from the sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import torch

from gradgene.cells import Cells, CellSchema, cells_from_anndata, log_normalise
from gradgene.errors import TokenError
from gradgene.tokens.batch import TokenBatch
from gradgene.tokens.vocabulary import CLS, EOS, MASK, PAD, Vocabulary

__all__ = ["Tokenizer"]


@dataclass(frozen=True)
class Tokenizer:
    """Turns cells into `[CLS] phenotypes genes [EOS]` as the model was trained to read them.

    Parameters
    ----------
    vocabulary
        Ids of labels, bins, categories and genes.
    schema
        How to read an AnnData given to `__call__`.
    """

    vocabulary: Vocabulary
    schema: CellSchema

    def __call__(self, cells: Cells | ad.AnnData) -> TokenBatch:
        """Tokenise cells whole, rows in their order.

        Counts are scaled to 10,000 over all genes of the file and log1p'ed first; genes the model
        does not know are left out.

        Raises
        ------
        TokenError
            If a label or every gene is unknown to the vocabulary, or cells are all-zero.
        CellsError
            If an AnnData does not fit the schema.
        """
        if isinstance(cells, ad.AnnData):
            n_given = cells.n_obs
            # Donors are needed to split cells, not to read them.
            cells = cells_from_anndata(cells, replace(self.schema, donor=None))
            if len(cells) != n_given:
                raise TokenError(
                    f"{n_given - len(cells)} cells are all-zero",
                    fix="remove them first, so that rows keep their meaning",
                )
        return self.encode(self.prepare(cells))

    def prepare(self, cells: Cells) -> Cells:
        """Log-normalise and reorder to the genes of the vocabulary; absent genes become zero."""
        cells = log_normalise(cells)
        if cells.genes == self.vocabulary.genes:
            return cells
        index_g = self.vocabulary.gene_index(cells.genes)
        known = np.flatnonzero(index_g >= 0)
        if known.size == 0:
            raise TokenError(
                "no gene of the cells is in the vocabulary",
                expected=f"names such as {', '.join(self.vocabulary.genes[:3])}",
                found=", ".join(cells.genes[:3]),
                fix="set data.gene_key to the column with the model's kind of gene name",
            )
        return _reindex(cells, self.vocabulary, index_g, known)

    def encode(
        self,
        cells: Cells,
        max_genes: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> TokenBatch:
        """Tokenise prepared cells.

        Parameters
        ----------
        cells
            Log-normalised cells whose genes are those of the vocabulary.
        max_genes, rng
            Keep a fresh uniform random subset of at most `max_genes` genes of each cell.

        Raises
        ------
        TokenError
            If the cells were not prepared or hold an unknown label.
        """
        if cells.genes != self.vocabulary.genes or cells.schema.values != "lognorm":
            raise TokenError("the cells were not prepared", fix="call tokenizer.prepare(cells)")
        matrix = cells.matrix_ng
        if not matrix.has_sorted_indices:
            matrix = matrix.sorted_indices()
        bins = np.digitize(matrix.data, self.vocabulary.bin_edges)
        expressed = bins > 0
        row = np.repeat(np.arange(len(cells)), np.diff(matrix.indptr))[expressed]
        gene, value = matrix.indices[expressed], bins[expressed]
        if max_genes is not None:
            kept = _random_subset(row, len(cells), max_genes, rng or np.random.default_rng(0))
            row, gene, value = row[kept], gene[kept], value[kept]
        return self._layout(self._label_ids(cells), row, gene.astype(np.int64), value)

    def true_labels(self, cells: Cells, category: str) -> np.ndarray:
        """(cells,) int64: index of each cell's label among the labels of `category`.

        Raises `TokenError` for an unknown category or label, or a missing one.
        """
        labels = cells.obs[category]
        known = {str(label): self.vocabulary.label_id(category, label) for label in labels.unique()}
        ids = labels.map(known).to_numpy(dtype=np.int64)
        return ids - self.vocabulary.label_ids(category).start

    def _label_ids(self, cells: Cells) -> np.ndarray:
        """(cells, phenotypes) input ids; a missing label becomes `[MASK]`."""
        ids = np.full((len(cells), len(self.vocabulary.phenotypes)), MASK, dtype=np.int64)
        for i, category in enumerate(self.vocabulary.phenotypes):
            column = cells.obs[category]
            lookup = {
                label: self.vocabulary.label_id(category, label)
                for label in column.dropna().unique()
            }
            present = column.notna().to_numpy()
            ids[present, i] = column[present].map(lookup).to_numpy(dtype=np.int64)
        return ids

    def _layout(
        self, labels: np.ndarray, row: np.ndarray, gene: np.ndarray, value: np.ndarray
    ) -> TokenBatch:
        """Place labels and genes (sorted by row, then gene) into padded rows."""
        n, header = len(labels), 1 + labels.shape[1]
        per_cell = np.bincount(row, minlength=n)
        length = header + (int(per_cell.max()) if n else 0) + 1
        first = np.concatenate([[0], np.cumsum(per_cell)[:-1]]) if n else np.zeros(0, int)
        column = header + np.arange(row.size) - first[row]
        input_ids = np.full((n, length), PAD, dtype=np.int64)
        types = np.zeros((n, length), dtype=np.int64)
        gene_ids = np.full((n, length), -1, dtype=np.int64)
        input_ids[:, 0] = CLS
        input_ids[:, 1:header] = labels
        types[:, 1:header] = [self.vocabulary.category_type(c) for c in self.vocabulary.phenotypes]
        input_ids[row, column] = self.vocabulary.bin_offset + value
        types[row, column] = self.vocabulary.gene_offset + gene
        gene_ids[row, column] = gene
        end = header + per_cell
        input_ids[np.arange(n), end] = EOS
        return TokenBatch(
            input_ids_nt=torch.from_numpy(input_ids),
            token_type_ids_nt=torch.from_numpy(types),
            attention_mask_nt=torch.from_numpy(np.arange(length)[None, :] <= end[:, None]),
            gene_ids_nt=torch.from_numpy(gene_ids),
        )


def _random_subset(row: np.ndarray, n: int, max_genes: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted positions of a uniform random subset of at most `max_genes` entries of each row."""
    order = np.lexsort((rng.random(row.size), row))
    per_row = np.bincount(row, minlength=n)
    first = np.concatenate([[0], np.cumsum(per_row)[:-1]])
    place = np.arange(row.size) - first[row[order]]
    return np.sort(order[place < max_genes])


def _reindex(cells: Cells, vocabulary: Vocabulary, index_g: np.ndarray, known: np.ndarray) -> Cells:
    """Columns of `cells` moved to the positions of the vocabulary's genes."""
    matrix = cells.matrix_ng[:, known].tocsr()
    matrix.indices = index_g[known][matrix.indices].astype(matrix.indices.dtype)
    matrix.resize((len(cells), len(vocabulary.genes)))
    matrix.sort_indices()
    ensembl = {cells.genes[i]: cells.ensembl_ids[i] for i in known}
    return Cells(
        matrix_ng=matrix,
        obs=cells.obs,
        genes=vocabulary.genes,
        ensembl_ids=tuple(ensembl.get(name, "") for name in vocabulary.genes),
        schema=cells.schema,
        dropped=cells.dropped,
        notes=cells.notes,
    )
