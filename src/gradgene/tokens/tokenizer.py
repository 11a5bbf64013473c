"""Cells to tokens, vectorised over a batch straight from the sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import pandas as pd
import torch

from gradgene.cells import Cells, CellSchema, cells_from_anndata, log_normalise
from gradgene.errors import TokenError
from gradgene.tokens.batch import TokenBatch
from gradgene.tokens.genes import GeneTokens, gene_tokens, match_genes, reorder_genes
from gradgene.tokens.truncation import TruncationReport, lowest_of_each, truncate
from gradgene.tokens.vocabulary import Vocabulary

__all__ = ["Tokenizer"]


@dataclass(frozen=True)
class Tokenizer:
    """Turns cells into `[CLS] phenotypes genes [EOS]` as the model was trained to read them.

    Parameters
    ----------
    vocabulary
        Ids of labels, bins, categories and genes, and the layout of a sequence.
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
            cells = cells_from_anndata(cells, self._schema_for(cells))
            if len(cells) != n_given:
                raise TokenError(
                    f"{n_given - len(cells)} cells are all-zero",
                    fix="remove them first, so that rows keep their meaning",
                )
        return self.encode(self.prepare(cells))

    def _schema_for(self, adata: ad.AnnData) -> CellSchema:
        """Donor and batch are not needed to read cells; some layouts need no column."""
        phenotypes = self.schema.phenotypes
        if self.vocabulary.layout.absent != "error":
            phenotypes = tuple(c for c in phenotypes if c in adata.obs) or phenotypes
        return replace(self.schema, donor=None, batch=None, phenotypes=phenotypes)

    def prepare(self, cells: Cells) -> Cells:
        """Log-normalise and reorder to the genes of the vocabulary; absent genes become zero.

        Genes are matched by `cells.genes` or by `cells.ensembl_ids`, whichever knows more of the
        vocabulary's (names, if both know as many); versions of Ensembl ids do not count.

        Raises
        ------
        TokenError
            If no gene is known, or two columns are the same gene.
        """
        cells = log_normalise(cells)
        genes = self.vocabulary.genes
        if cells.genes is genes or cells.genes == genes:
            return cells
        return reorder_genes(cells, genes, match_genes(genes, cells.genes, cells.ensembl_ids))

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
        genes = self._gene_tokens(cells)
        if max_genes is not None:
            draw = (rng or np.random.default_rng(0)).random(genes.value.size)
            if self.vocabulary.layout.genes == "all":  # what is not attended to goes first
                draw += genes.value == 0
            genes = genes.only(lowest_of_each(draw, genes.n_n, max_genes))
        return self._lay_out(self._label_ids(cells), genes)

    def truncation(self, cells: Cells, max_genes: int | None = None) -> TruncationReport:
        """What `encode(cells, max_genes)` leaves out, by `max_genes` and the layout's `max_length`.

        Raises `TokenError` if the cells were not prepared.
        """
        limits = [limit for limit in (max_genes, self._room) if limit is not None]
        return TruncationReport.of(self._gene_tokens(cells).n_n, min(limits, default=None))

    def truncate(self, cells: Cells, max_genes: int, seed: int) -> tuple[Cells, TruncationReport]:
        """Leave at most `max_genes` expressed genes in each cell, and say how many were left out.

        The draw is uniform and depends on `seed` and the cell's name alone, so a cell is cut in the
        same way in whatever batch, worker or run it is met.
        """
        return truncate(cells, max_genes, self.vocabulary.bins.threshold, seed)

    def true_labels(self, cells: Cells, category: str) -> np.ndarray:
        """(cells,) int64: index of each cell's label among the labels of `category`.

        Raises `TokenError` for an unknown category or label, or a missing one.
        """
        codes_n, labels = pd.factorize(cells.obs[category])
        if (codes_n < 0).any():
            raise TokenError(f"{int((codes_n < 0).sum())} cells have no label of {category!r}")
        index = [self.vocabulary.label_index(category, str(label)) for label in labels]
        return np.array(index, dtype=np.int64)[codes_n]

    @property
    def _room(self) -> int | None:
        """The largest number of genes of a sequence, if there is one."""
        longest = self.vocabulary.layout.max_length
        return None if longest is None else max(longest - self.vocabulary.n_header, 0)

    def _gene_tokens(self, cells: Cells) -> GeneTokens:
        genes = self.vocabulary.genes
        same = cells.genes is genes or cells.genes == genes
        if not same or cells.schema.values != "lognorm":
            raise TokenError("the cells were not prepared", fix="call tokenizer.prepare(cells)")
        return gene_tokens(cells.matrix_ng, self.vocabulary.bins, self.vocabulary.layout.genes)

    def _label_ids(self, cells: Cells) -> np.ndarray:
        """(cells, phenotypes) input ids."""
        layout = self.vocabulary.layout
        ids = np.empty((len(cells), len(self.vocabulary.phenotypes)), dtype=np.int64)
        for i, category in enumerate(self.vocabulary.phenotypes):
            if category not in cells.obs and layout.absent != "error":
                missing = self.vocabulary.missing_id(category)
                ids[:, i] = layout.mask if layout.absent == "mask" else missing
                continue
            labels = cells.obs[category].tolist()
            known = {label: self._label_id(category, label) for label in set(labels)}
            ids[:, i] = [known[label] for label in labels]
        return ids

    def _label_id(self, category: str, label: object) -> int:
        """Input id in the slot of a category; `label` is NaN where it is missing."""
        layout = self.vocabulary.layout
        if not isinstance(label, str):
            return self.vocabulary.missing_id(category)
        if layout.unknown_labels == "mask" and not self.vocabulary.knows(category, label):
            return layout.mask
        return self.vocabulary.label_id(category, label)

    def _lay_out(self, labels: np.ndarray, genes: GeneTokens) -> TokenBatch:
        """Place labels and genes into padded rows."""
        vocabulary, layout = self.vocabulary, self.vocabulary.layout
        n, header, room = len(labels), vocabulary.n_header, self._room
        ended_n = np.full(n, layout.end is not None)
        if room is not None:
            ended_n &= genes.n_n < room
            genes = genes.first(room)
        stop_n = header + genes.n_n
        place = np.arange(int((stop_n + ended_n).max()) if n else header)
        is_gene = (place >= header) & (place < stop_n[:, None])
        attended = place < (stop_n + ended_n)[:, None]
        # One block, as a new one for each batch costs more to get than to fill.
        gene_ids, types, input_ids = np.empty((3, *is_gene.shape), dtype=np.int64)
        gene_ids[:], types[:], input_ids[:] = -1, 0, layout.pad
        input_ids[:, :header] = layout.cls
        input_ids[:, 1 : 1 + labels.shape[1]] = labels
        if layout.start is not None:
            input_ids[:, header - 1] = layout.start
        types[:, :header] = self._header_types()
        input_ids[is_gene] = genes.value + np.int32(vocabulary.bin_offset)
        types[is_gene] = genes.gene + vocabulary.gene_offset
        gene_ids[is_gene] = genes.gene
        if layout.genes == "all":
            attended[is_gene] = genes.value > 0
            gene_ids[~attended] = -1
        if layout.end is not None:
            rows = np.flatnonzero(ended_n)
            input_ids[rows, stop_n[rows]] = layout.end
            if layout.identity == "position":
                types[rows, stop_n[rows]] = vocabulary.n_types - 1
        return TokenBatch(
            input_ids_nt=torch.from_numpy(input_ids),
            token_type_ids_nt=torch.from_numpy(types),
            attention_mask_nt=torch.from_numpy(attended),
            gene_ids_nt=torch.from_numpy(gene_ids),
            pad_id=layout.pad,
        )

    def _header_types(self) -> list[int]:
        """Token types before the first gene."""
        vocabulary = self.vocabulary
        if vocabulary.layout.identity == "position":
            return list(range(vocabulary.n_header))
        types = [0, *map(vocabulary.category_type, vocabulary.phenotypes)]
        return types if vocabulary.layout.start is None else [*types, 0]
