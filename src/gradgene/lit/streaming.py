"""Token batches of cells that do not fit in memory, in an order known before anything is read.

Cells come in fetches: blocks of neighbouring cells, shuffled and read together through scDataset,
then tokenised and cut into batches of similar length. How many batches a fetch gives follows from
the numbers of stored entries alone. So all ranks agree on the number of steps, and a training that
was broken off goes on at any batch without reading what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scdataset import scDataset
from scdataset.strategy import SamplingStrategy
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from gradgene.cells import Cells
from gradgene.lit.stream_plan import (
    SPREAD,
    Fetch,
    Streaming,
    batch_sizes,
    plan_epoch,
    token_bound,
)
from gradgene.tokens import TokenBatch, Tokenizer
from gradgene.tokens.masking import cell_seeds

__all__ = ["CellSource", "SeededTokens", "Streaming", "TokenStream"]

#: Cells tokenised in one go: a batch of long cells is too few to be quick.
TOGETHER = 128


class CellSource(Protocol):
    """What can be streamed: `CellShards`, or cells in memory behind the same face.

    `nnz_n` (cells,) is an upper bound of the genes each cell expresses, known without reading.
    """

    @property
    def nnz_n(self) -> np.ndarray:
        """(cells,) integer."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows_n: np.ndarray) -> Cells:
        """The cells at these positions, in that order."""
        ...


@dataclass(frozen=True)
class SeededTokens:
    """A batch of cells with the seed of everything random about each: seeds_n (cells,) int64."""

    tokens: TokenBatch
    seeds_n: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SeededTokens:
        """The same batch on another device."""
        return SeededTokens(
            self.tokens.to(device, non_blocking), self.seeds_n.to(device, non_blocking=non_blocking)
        )


class TokenStream:
    """Token batches of one or several epochs, one after the other, for one rank.

    Lightning takes it as a data loader. Which cells are in batch k, in which order, with which of
    their genes and which seeds is a function of the parameters and k alone; `workers` is not one
    of them. `state_dict` says how far it was read, `load_state_dict` makes the next pass start
    there.

    Parameters
    ----------
    source, tokenizer
        The cells, and how the model reads them.
    rows_n
        Positions of the cells to serve, ascending.
    streaming
        How to read and batch.
    seed, epochs, shuffle
        Of the order. Without `shuffle` every pass is the same.
    max_genes
        Fresh random subset of a cell's genes; None serves whole cells.
    share
        Share of a cell's stored entries that become tokens, as `token_bound` takes it.
    rank, world
        Which share of the cells.
    """

    def __init__(
        self,
        source: CellSource,
        tokenizer: Tokenizer,
        rows_n: np.ndarray,
        streaming: Streaming,
        *,
        seed: int = 0,
        epochs: int = 1,
        shuffle: bool = True,
        max_genes: int | None = None,
        share: float = 1.0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.tokenizer, self.rows_n = source, tokenizer, rows_n
        self.streaming, self.seed, self.shuffle = streaming, seed, shuffle
        self.max_genes, self.rank, self.world = max_genes, rank, world
        self.length_n = token_bound(source.nnz_n, tokenizer, max_genes, share)
        if shuffle:
            self.length_n = np.ceil(self.length_n * (1 + SPREAD)).astype(np.int64)
        n_batches = [sum(f.n_batches for f in self.plan(epoch)) for epoch in range(epochs)]
        #: Number of batches before the end of each epoch.
        self.ends = np.cumsum(n_batches)
        self.position = self.first = 0

    def plan(self, epoch: int) -> list[Fetch]:
        """What this rank reads in an epoch."""
        seed = (self.seed, epoch) if self.shuffle else None
        return plan_epoch(self.rows_n, self.length_n, self.streaming, seed, self.rank, self.world)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def state_dict(self) -> dict[str, Any]:
        """How many batches were taken."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next pass behind the batches that were taken."""
        self.first = self.position = int(state["position"])

    def __iter__(self) -> Iterator[SeededTokens]:
        self.position, self.first = self.first, 0
        for epoch in range(
            int(np.searchsorted(self.ends, self.position, side="right")), len(self.ends)
        ):
            start = int(self.ends[epoch - 1]) if epoch else 0
            for batch in self._epoch(epoch, skip=self.position - start):
                self.position += 1
                yield batch

    def _epoch(self, epoch: int, skip: int) -> Iterator[SeededTokens]:
        fetches = self.plan(epoch)
        ends = np.cumsum([f.n_batches for f in fetches])
        first = int(np.searchsorted(ends, skip, side="right"))
        skip -= int(ends[first - 1]) if first else 0
        words = (self.seed, epoch) if self.shuffle else (self.seed,)
        for batches in self._loader(fetches[first:], words):
            yield from batches.cut()[skip:]
            skip = 0

    def _loader(self, fetches: list[Fetch], words: tuple[int, ...]) -> Iterator[PackedBatches]:
        """The fetches, tokenised, in their order."""
        made = scDataset(
            self.source,
            _Planned(fetches, self.streaming.fetch_cells),
            batch_size=self.streaming.fetch_cells,
            fetch_factor=1,
            fetch_callback=_read,
            fetch_transform=_Tokenise(self, fetches, words),
            batch_callback=_whole,
            rank=0,  # the plan knows about ranks
            world_size=1,
            seed=0,
        )
        return iter(DataLoader(made, batch_size=None, num_workers=self.streaming.workers))


class _Planned(SamplingStrategy):
    """Hands scDataset the rows of given fetches, all filled up to one size with -1.

    scDataset gives each worker a run of consecutive fetches, and the data loader takes from the
    workers in turn. So the fetches are dealt to the runs in turn, and come out in their order.
    """

    _shuffle_before_yield = False

    def __init__(self, fetches: list[Fetch], fetch_cells: int) -> None:
        super().__init__()
        self.rows_fn = np.full((len(fetches), fetch_cells), -1, dtype=np.int64)
        for rows_n, fetch in zip(self.rows_fn, fetches, strict=True):
            rows_n[: len(fetch.rows_n)] = fetch.rows_n

    def get_len(self, data_collection: Any) -> int:
        """Length of what `get_indices` returns."""
        return self.rows_fn.size

    def get_indices(self, data_collection: Any, seed: Any = None, rng: Any = None) -> np.ndarray:
        """The rows of all fetches, those of one worker together."""
        worker = get_worker_info()
        n = 1 if worker is None else worker.num_workers
        return np.concatenate([self.rows_fn[w::n].ravel() for w in range(n)])


@dataclass(frozen=True)
class PackedBatches:
    """The batches of a fetch end to end: few tensors to send between processes.

    Attributes
    ----------
    flat
        Name -> values of that tensor of all batches, one batch after the other.
    shapes
        (cells, tokens) of each batch.
    seeds_n
        Of all cells.
    pad_id
        As in `TokenBatch`.
    """

    flat: dict[str, Tensor]
    shapes: list[tuple[int, int]]
    seeds_n: Tensor
    pad_id: int

    @classmethod
    def of(cls, batches: list[TokenBatch], seeds_n: Tensor) -> PackedBatches:
        """Pack batches of cells whose seeds follow each other in `seeds_n`."""
        names = batches[0].tensors()
        flat = {k: torch.cat([b.tensors()[k].reshape(-1) for b in batches]) for k in names}
        shapes = [(b.input_ids_nt.shape[0], b.input_ids_nt.shape[1]) for b in batches]
        return cls(flat, shapes, seeds_n, batches[0].pad_id)

    def cut(self) -> list[SeededTokens]:
        """The batches again, as views."""
        n_tokens = [n * t for n, t in self.shapes]
        pieces = {name: values.split(n_tokens) for name, values in self.flat.items()}
        seeds = self.seeds_n.split([n for n, _ in self.shapes])
        return [
            SeededTokens(
                TokenBatch(**{k: v[i].view(shape) for k, v in pieces.items()}, pad_id=self.pad_id),
                seeds[i],
            )
            for i, shape in enumerate(self.shapes)
        ]


class _Tokenise:
    """Makes the batches of one fetch."""

    def __init__(self, stream: TokenStream, fetches: list[Fetch], words: tuple[int, ...]) -> None:
        self.tokenizer, self.max_genes = stream.tokenizer, stream.max_genes
        self.shuffle, self.words = stream.shuffle, words
        self.batch_tokens = stream.streaming.batch_tokens
        # A fetch is known by its first row; only the last round of ranks can leave one empty.
        self.n_batches = {_first(fetch.rows_n): fetch.n_batches for fetch in fetches}

    def __call__(self, read: tuple[np.ndarray, Cells]) -> PackedBatches:
        rows_n, cells = read
        cells = self.tokenizer.prepare(cells)
        rng = np.random.default_rng([*self.words, *rows_n[:1].tolist()])
        nnz_n = np.diff(cells.matrix_ng.indptr)
        length_n = token_bound(nnz_n, self.tokenizer, self.max_genes).astype(np.float64)
        if self.shuffle:
            length_n = np.ceil(length_n * (1 + SPREAD * rng.random(len(rows_n))))
        order_n = np.argsort(-length_n, kind="stable")
        sizes = batch_sizes(length_n, self.batch_tokens, self.n_batches[_first(rows_n)])
        batches = [*self._encode(cells, order_n, sizes, rng)]
        parts = np.split(rows_n[order_n], np.cumsum(sizes)[:-1])
        places = rng.permutation(len(sizes)) if self.shuffle else np.arange(len(sizes))
        seeds_n = cell_seeds(np.concatenate([parts[i] for i in places]), *self.words)
        return PackedBatches.of([batches[i] for i in places], seeds_n)

    def _encode(
        self, cells: Cells, order_n: np.ndarray, sizes: tuple[int, ...], rng: np.random.Generator
    ) -> Iterator[TokenBatch]:
        """Batches of these sizes, of the cells in this order; neighbours are tokenised together."""
        ends = np.cumsum(sizes)
        first = 0
        while first < len(sizes):
            start = int(ends[first]) - sizes[first]
            last = max(first + 1, int(np.searchsorted(ends, start + TOGETHER, side="right")))
            group = cells.take(order_n[start : int(ends[last - 1])])
            tokens = self.tokenizer.encode(group, self.max_genes, rng)
            for end, size in zip(ends[first:last] - start, sizes[first:last], strict=True):
                if size:
                    yield tokens.take(torch.arange(end - size, end))
                else:  # without cells, but as long as a model expects
                    none = {name: tensor[:0] for name, tensor in tokens.tensors().items()}
                    yield TokenBatch(**none, pad_id=tokens.pad_id)
            first = last


def _first(rows_n: np.ndarray) -> int:
    return int(rows_n[0]) if len(rows_n) else -1


def _read(source: CellSource, indices_n: np.ndarray) -> tuple[np.ndarray, Cells]:
    rows_n = indices_n[indices_n >= 0]
    return rows_n, source.read(rows_n)


def _whole(batches: PackedBatches, indices_n: np.ndarray) -> PackedBatches:
    return batches
