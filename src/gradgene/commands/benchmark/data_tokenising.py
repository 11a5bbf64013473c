"""Tokenising from the sparse matrix against the loop over an AnnData that one writes first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import torch

from gradgene.cells import Cells, CellSchema, read_cells
from gradgene.errors import TokenError
from gradgene.tokens import CLS, EOS, PAD, TokenBatch, Tokenizer, Vocabulary

__all__ = ["TokenisingSpeed", "read_case", "time_tokenising", "tokenise_one_by_one"]

#: How every benchmark reads synthetic cells.
PHENOTYPES = ("disease", "cell_type", "tissue")
BIN_EDGES = (0.1, 0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
#: Our time is short, so it is taken this often and the median counts.
REPEATS = 3


@dataclass(frozen=True)
class TokenisingSpeed:
    """Cells a second on one thread: ours, ours with normalisation of counts, and the loop."""

    ours: float
    with_normalising: float
    loop: float
    genes_per_cell: float

    @property
    def ratio(self) -> float:
        """How much faster ours is than the loop, on the same log-normalised values."""
        return self.ours / self.loop


def read_case(file: Path) -> tuple[Cells, Tokenizer, ad.AnnData]:
    """Counts, a tokenizer of all their labels and genes, and the AnnData that a loop would slice.

    The AnnData is the file in memory, every obs column a categorical as files have them, with its
    values log-normalised.
    """
    counts = read_cells(str(file), CellSchema(PHENOTYPES))
    tokenizer = Tokenizer(Vocabulary.from_cells(counts, BIN_EDGES), counts.schema)
    adata = ad.read_h5ad(file)
    adata = adata[list(counts.obs.index)].copy()
    adata.X = tokenizer.prepare(counts).matrix_ng
    return counts, tokenizer, adata


def time_tokenising(
    counts: Cells, tokenizer: Tokenizer, adata: ad.AnnData, loop_cells: int, batch: int
) -> TokenisingSpeed:
    """Tokenise all cells in batches of `batch`, and the first `loop_cells` one by one.

    Raises
    ------
    TokenError
        If the two disagree in a single token.
    """
    prepared = tokenizer.prepare(counts)
    first = np.arange(min(loop_cells, len(counts)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _require_equal(
            tokenizer.encode(prepared.take(first)), tokenise_one_by_one(adata[first], tokenizer)
        )
        loop = _seconds(lambda: tokenise_one_by_one(adata[first], tokenizer))
        ours = [_seconds(lambda: _by_batch(prepared, tokenizer, batch)) for _ in range(REPEATS)]
        normalised = [_seconds(lambda: _by_batch(counts, tokenizer, batch)) for _ in range(REPEATS)]
    finally:
        torch.set_num_threads(threads)
    return TokenisingSpeed(
        ours=len(counts) / float(np.median(ours)),
        with_normalising=len(counts) / float(np.median(normalised)),
        loop=len(first) / loop,
        genes_per_cell=prepared.expressed(BIN_EDGES[0]).nnz / len(counts),
    )


def tokenise_one_by_one(adata: ad.AnnData, tokenizer: Tokenizer) -> TokenBatch:
    """The plain way: slice a cell, digitise its stored values, concatenate, pad at the end."""
    vocabulary = tokenizer.vocabulary
    categories = vocabulary.phenotypes
    ids = {
        c: {label: vocabulary.label_id(c, label) for label in vocabulary.categories[c]}
        for c in categories
    }
    types = [vocabulary.category_type(c) for c in categories]
    cells = []
    for i in range(adata.n_obs):
        cell = adata[i]
        bins = np.digitize(cell.X.data, vocabulary.bin_edges)
        genes = cell.X.indices[bins > 0].astype(np.int64)
        labels = [ids[c][cell.obs[c].iloc[0]] for c in categories]
        values = vocabulary.bin_offset + bins[bins > 0]
        header = [-1] * (1 + len(labels))
        cells.append(
            (
                np.concatenate([[CLS], labels, values, [EOS]]),
                np.concatenate([[0], types, vocabulary.gene_offset + genes, [0]]),
                np.concatenate([header, genes, [-1]]),
            )
        )
    input_ids, token_types, gene_ids = zip(*cells, strict=True)
    lengths = torch.tensor([len(ids_t) for ids_t in input_ids])
    return TokenBatch(
        input_ids_nt=_padded(input_ids, PAD),
        token_type_ids_nt=_padded(token_types, 0),
        attention_mask_nt=torch.arange(int(lengths.max()))[None, :] < lengths[:, None],
        gene_ids_nt=_padded(gene_ids, -1),
    )


def _padded(rows: tuple[np.ndarray, ...], value: int) -> torch.Tensor:
    tensors = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=value)


def _by_batch(cells: Cells, tokenizer: Tokenizer, batch: int) -> None:
    """Tokenise as loaders do: take rows, normalise counts, encode."""
    for start in range(0, len(cells), batch):
        rows_n = np.arange(start, min(start + batch, len(cells)))
        tokenizer.encode(tokenizer.prepare(cells.take(rows_n)))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _require_equal(ours: TokenBatch, theirs: TokenBatch) -> None:
    for name, tensor in ours.tensors().items():
        if not torch.equal(tensor, theirs.tensors()[name]):
            raise TokenError(
                f"tokenising by batch and cell by cell disagree in {name}",
                fix="report this: the speeds would compare two different things",
            )
