"""In which order cells are streamed and how many batches they give, known before any is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scdataset import BlockShuffling

from gradgene.errors import ConfigError
from gradgene.tokens import Tokenizer, length_batches

__all__ = ["SPREAD", "Fetch", "Streaming", "batch_sizes", "plan_epoch", "token_bound"]

#: In shuffled batches lengths are blurred by up to this share, so that cells change company.
SPREAD = 0.05
#: By how much the budget grows where cells are longer than was expected of them.
GIVE = 1.1


@dataclass(frozen=True)
class Streaming:
    """How cells are read and batched.

    Parameters
    ----------
    batch_tokens
        Largest number of cells x tokens of the longest cell in a batch.
    fetch_cells
        Cells read and tokenised together; batches are made of one fetch.
    block_cells
        Neighbouring cells that stay together when cells are shuffled: larger reads faster.
    workers
        Processes that read and tokenise ahead; 0 does it between the steps. No number of them
        changes what is in a batch.

    Raises
    ------
    ConfigError
        For numbers that make no batch, and blocks larger than a fetch.
    """

    batch_tokens: int = 16384
    fetch_cells: int = 2048
    block_cells: int = 32
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_tokens, self.fetch_cells, self.block_cells) < 1 or self.workers < 0:
            raise ConfigError(
                "makes no batches",
                where="data",
                expected="batch_tokens, fetch_cells and block_cells >= 1, workers >= 0",
                found=str(self),
            )
        if self.block_cells > self.fetch_cells:
            raise ConfigError(
                "is larger than a fetch",
                where="data.block_cells",
                expected=f"at most data.fetch_cells={self.fetch_cells}",
                found=str(self.block_cells),
            )


@dataclass(frozen=True)
class Fetch:
    """What one process reads at once: ascending `rows_n`, to be served in `n_batches` batches."""

    rows_n: np.ndarray
    n_batches: int


def plan_epoch(
    rows_n: np.ndarray,
    length_n: np.ndarray,
    streaming: Streaming,
    seed: Sequence[int] | None,
    rank: int = 0,
    world: int = 1,
) -> list[Fetch]:
    """What `rank` of `world` processes reads in an epoch.

    Together the ranks read every row once. All have equally many fetches, and as many batches in
    each: what the rank with the longest cells needs.

    Parameters
    ----------
    rows_n
        Positions of the cells, ascending.
    length_n
        An upper bound of the tokens of every cell of the source, by position.
    streaming
        Sizes of blocks, fetches and batches.
    seed
        Whole numbers that decide the order; None for the order of the rows.
    """
    if seed is not None:
        state = np.random.SeedSequence(seed).generate_state(1)
        shuffling = BlockShuffling(streaming.block_cells, indices=rows_n)
        rows_n = shuffling.get_indices(rows_n, seed=int(state[0]))
    fetches = []
    for start in range(0, len(rows_n), world * streaming.fetch_cells):
        together_n = rows_n[start : start + world * streaming.fetch_cells]
        parts = [np.sort(part) for part in np.array_split(together_n, world)]
        needed = [len(_greedy(length_n[part], streaming.batch_tokens)) for part in parts]
        fetches.append(Fetch(parts[rank], max(needed)))
    return fetches


def batch_sizes(length_n: np.ndarray, batch_tokens: int, n: int) -> tuple[int, ...]:
    """Cells in each of exactly `n` batches, longest cells first, within the budget of tokens.

    Where fewer would do, the largest are halved, and where there are no cells to halve some are
    empty: another rank still has cells, and all take the same steps. If the cells do not fit into
    so many batches, because they were expected to be shorter, the budget grows until they do.
    """
    sizes = _greedy(length_n, batch_tokens)
    while len(sizes) > n:
        batch_tokens = int(batch_tokens * GIVE) + 1
        sizes = _greedy(length_n, batch_tokens)
    while len(sizes) < n and max(sizes, default=0) > 1:
        i = int(np.argmax(sizes))
        sizes[i : i + 1] = [sizes[i] - sizes[i] // 2, sizes[i] // 2]
    return (*sizes, *[0] * (n - len(sizes)))


def _greedy(length_n: np.ndarray, batch_tokens: int) -> list[int]:
    """Cells of each batch, longest cells first; of shorter cells there are never more batches."""
    return [len(rows) for rows in length_batches(torch.from_numpy(length_n), batch_tokens)]


def token_bound(
    nnz_n: np.ndarray, tokenizer: Tokenizer, max_genes: int | None, share: float = 1.0
) -> np.ndarray:
    """(cells,) int64: the most tokens to expect of each cell; never too few if `share` is 1.

    Parameters
    ----------
    nnz_n
        (cells,) stored entries of each cell.
    tokenizer, max_genes
        How the cells are tokenised.
    share
        Share of a cell's stored entries that become tokens: 1 if all genes are in the vocabulary.
    """
    vocabulary = tokenizer.vocabulary
    layout, n_genes = vocabulary.layout, len(vocabulary.genes)
    genes_n = np.ceil(nnz_n * share).astype(np.int64)
    if layout.genes == "all":
        genes_n = np.full(len(nnz_n), n_genes)
    genes_n = np.minimum(genes_n, n_genes if max_genes is None else min(max_genes, n_genes))
    length_n = vocabulary.n_header + genes_n + (layout.end is not None)
    return length_n if layout.max_length is None else np.minimum(length_n, layout.max_length)
