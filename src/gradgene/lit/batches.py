"""Batches of cells in memory: which cells, in which order, and their tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from gradgene.cells import Cells
from gradgene.errors import ConfigError
from gradgene.tokens import TokenBatch, Tokenizer, length_batches

__all__ = [
    "LengthBatches",
    "SeededBatches",
    "TokenisedCells",
    "evened",
    "rank_and_world",
    "token_lengths",
]

#: Lengths within this ratio are taken as equal when cells of a batch are drawn: it bounds the
#: padding, and lets cells change company from epoch to epoch.
SAME_LENGTH = 1.05


class TokenisedCells(Dataset[TokenBatch]):
    """Tokenises a whole batch of rows at a time, straight from the sparse matrix."""

    def __init__(self, cells: Cells, tokenizer: Tokenizer, max_genes: int | None) -> None:
        self.cells, self.tokenizer, self.max_genes = cells, tokenizer, max_genes

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, batch: tuple[int, np.ndarray]) -> TokenBatch:
        seed, rows = batch
        rng = np.random.default_rng(seed)
        return self.tokenizer.encode(self.cells.take(rows), self.max_genes, rng)


class SeededBatches(DistributedSampler[tuple[int, np.ndarray]]):
    """Batches of rows, each with a seed of its own; what epoch e holds depends on e alone.

    A run resumed at an epoch therefore sees the same cells and genes as one never stopped. Ranks
    share the batches of an epoch: every row is in one batch of one rank, and all ranks have as many
    batches. It is a `DistributedSampler` so that Lightning does not wrap another around it.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int) -> None:
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        _, world = rank_and_world()
        return math.ceil(self._n_batches / world)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        rank, world = rank_and_world()
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = self._batches(rng if self.shuffle else None, world)
        for i, rows in enumerate(batches):
            seed = int(rng.integers(2**31))
            if i % world == rank:
                yield seed, rows

    @property
    def _n_batches(self) -> int:
        return -(-self.n // self.batch_size)

    def _batches(self, rng: np.random.Generator | None, world: int) -> list[np.ndarray]:
        """All batches of an epoch, a multiple of `world`; in order if there is no `rng`."""
        rows = np.arange(self.n) if rng is None else rng.permutation(self.n)
        starts = range(0, self.n, self.batch_size)
        return evened([rows[start : start + self.batch_size] for start in starts], world)


class LengthBatches(SeededBatches):
    """Batches of cells of similar length, at most `batch_tokens` padded tokens each.

    The number of batches is the same in every epoch, because Lightning asks for it once. Without
    shuffling the longest cells come first, and iterating says which rows a batch holds.
    """

    def __init__(self, n_tokens_n: np.ndarray, batch_tokens: int, shuffle: bool, seed: int) -> None:
        super().__init__(len(n_tokens_n), 1, shuffle, seed)
        self.batch_tokens = batch_tokens
        steps_n = np.ceil(np.log(np.maximum(n_tokens_n, 1)) / np.log(SAME_LENGTH))
        alike_n = np.maximum(np.ceil(SAME_LENGTH**steps_n).astype(np.int64), n_tokens_n)
        self.n_tokens_n = torch.from_numpy(alike_n)
        self.n_batches = sum(1 for _ in length_batches(self.n_tokens_n, batch_tokens))

    @property
    def _n_batches(self) -> int:
        return self.n_batches

    def _batches(self, rng: np.random.Generator | None, world: int) -> list[np.ndarray]:
        if rng is None:
            batches = length_batches(self.n_tokens_n, self.batch_tokens)
            return evened([rows.numpy() for rows in batches], world)
        mixed = rng.permutation(self.n)
        lengths = self.n_tokens_n[torch.from_numpy(mixed)]
        batches = length_batches(lengths, self.batch_tokens)  # keeps the order of equal lengths
        even = evened([mixed[rows.numpy()] for rows in batches], world)
        # Neighbours stay together, so that the ranks have work of one length at a time.
        rounds = rng.permutation(len(even) // world)
        return [even[r * world + i] for r in rounds for i in range(world)]


def token_lengths(cells: Cells, tokenizer: Tokenizer, max_genes: int | None) -> np.ndarray:
    """(cells,) tokens of each prepared cell when at most `max_genes` of its genes are kept."""
    vocabulary = tokenizer.vocabulary
    layout = vocabulary.layout
    if layout.genes == "all":
        n_genes_n = np.full(len(cells), len(vocabulary.genes))
    elif layout.genes == "stored":
        n_genes_n = np.diff(cells.matrix_ng.indptr)
    else:
        n_genes_n = np.asarray(cells.expressed(vocabulary.bins.threshold).sum(axis=1)).ravel()
    n_tokens_n = vocabulary.n_header + np.minimum(n_genes_n, max_genes or len(vocabulary.genes)) + 1
    return np.minimum(n_tokens_n, layout.max_length or n_tokens_n.max(initial=0))


def rank_and_world() -> tuple[int, int]:
    """Number of this process and number of processes; (0, 1) where there is only one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def evened(batches: list[np.ndarray], world: int) -> list[np.ndarray]:
    """The batches of rows, the largest cut in two until their number is a multiple of `world`.

    Raises `ConfigError` where there are not enough rows for that.
    """
    while len(batches) % world:
        i = int(np.argmax([len(rows) for rows in batches]))
        if len(batches[i]) < 2:
            raise ConfigError(
                "are more processes than there are rows to share",
                where="trainer.devices",
                found=str(world),
            )
        batches[i : i + 1] = np.array_split(batches[i], 2)
    return batches
