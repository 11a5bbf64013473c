"""Token batches of cells that do not fit in memory, in an order known before anything is read.

Cells come in fetches: blocks of neighbouring cells, shuffled and read together through scDataset,
then tokenised and cut into batches of similar length. How many batches a fetch gives follows from
the numbers of stored entries alone. So all ranks agree on the number of steps, and a training that
was broken off goes on at any batch without reading what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scdataset import BlockShuffling, scDataset
from scdataset.strategy import SamplingStrategy
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from gradgene.cells import Cells
from gradgene.errors import ConfigError
from gradgene.lit.masking import cell_seeds
from gradgene.tokens import TokenBatch, Tokenizer, length_batches

__all__ = ["CellSource", "Fetch", "SeededTokens", "Streaming", "TokenStream", "plan_epoch"]

#: In shuffled batches lengths are blurred by up to this share, so that cells change company.
SPREAD = 0.05


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
    fetch_cells: int = 1024
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


@dataclass(frozen=True)
class Fetch:
    """What one process reads at once: ascending `rows_n`, and the number of cells of each batch.

    A batch without cells stands where another rank still has one: all take the same steps.
    """

    rows_n: np.ndarray
    sizes: tuple[int, ...]


def plan_epoch(
    rows_n: np.ndarray,
    length_n: np.ndarray,
    streaming: Streaming,
    seed: Sequence[int] | None,
    rank: int = 0,
    world: int = 1,
) -> list[Fetch]:
    """What `rank` of `world` processes reads in an epoch, and how it is batched.

    Together the ranks read every row once. All have equally many fetches, and as many batches in
    each; a batch has at most `batch_tokens` padded tokens, if its cells are not longer than that.

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
        sizes = [_sizes(length_n[part], streaming.batch_tokens) for part in parts]
        mine = _in_exactly(sizes[rank], max(map(len, sizes)))
        fetches.append(Fetch(parts[rank], mine))
    return fetches


def _sizes(length_n: np.ndarray, batch_tokens: int) -> tuple[int, ...]:
    """Cells of each batch, longest cells first."""
    return tuple(map(len, length_batches(torch.from_numpy(length_n), batch_tokens)))


def _in_exactly(sizes: tuple[int, ...], n: int) -> tuple[int, ...]:
    """As many batches as another rank has: the largest are halved, then there are empty ones."""
    cut = list(sizes)
    while len(cut) < n and max(cut, default=0) > 1:
        i = int(np.argmax(cut))
        cut[i : i + 1] = [cut[i] - cut[i] // 2, cut[i] // 2]
    return (*cut, *[0] * (n - len(cut)))


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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.tokenizer, self.rows_n = source, tokenizer, rows_n
        self.streaming, self.seed, self.shuffle = streaming, seed, shuffle
        self.max_genes, self.rank, self.world = max_genes, rank, world
        self.length_n = n_tokens_bound(source.nnz_n, tokenizer, max_genes)
        if shuffle:
            self.length_n = np.ceil(self.length_n * (1 + SPREAD)).astype(np.int64)
        n_batches = [sum(len(f.sizes) for f in self.plan(epoch)) for epoch in range(epochs)]
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
        ends = np.cumsum([len(f.sizes) for f in fetches])
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


def n_tokens_bound(nnz_n: np.ndarray, tokenizer: Tokenizer, max_genes: int | None) -> np.ndarray:
    """(cells,) int64: no cell has more tokens than this, whatever it expresses."""
    vocabulary = tokenizer.vocabulary
    layout, n_genes = vocabulary.layout, len(vocabulary.genes)
    genes_n = nnz_n.astype(np.int64) if layout.genes != "all" else np.full(len(nnz_n), n_genes)
    genes_n = np.minimum(genes_n, n_genes if max_genes is None else max_genes)
    length_n = vocabulary.n_header + genes_n + (layout.end is not None)
    return length_n if layout.max_length is None else np.minimum(length_n, layout.max_length)


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
        # A fetch is known by its first row; only the last round of ranks can leave one empty.
        self.sizes = {_first(fetch.rows_n): fetch.sizes for fetch in fetches}

    def __call__(self, read: tuple[np.ndarray, Cells]) -> PackedBatches:
        rows_n, cells = read
        cells = self.tokenizer.prepare(cells)
        rng = np.random.default_rng([*self.words, *rows_n[:1].tolist()])
        length_n = np.diff(cells.matrix_ng.indptr).astype(np.float64)
        if self.max_genes is not None:
            length_n = np.minimum(length_n, self.max_genes)
        if self.shuffle:
            length_n *= 1 + SPREAD * rng.random(len(rows_n))
        # Sorted lengths are below the sorted bounds of the plan, so its sizes keep to the budget.
        sizes, order_n = self.sizes[_first(rows_n)], np.argsort(-length_n, kind="stable")
        parts = np.split(order_n, np.cumsum(sizes)[:-1])
        if self.shuffle:
            parts = [parts[i] for i in rng.permutation(len(parts))]
        batches = [self.tokenizer.encode(cells.take(p), self.max_genes, rng) for p in parts]
        seeds_n = cell_seeds(rows_n[np.concatenate(parts)], *self.words)
        return PackedBatches.of(batches, seeds_n)


def _first(rows_n: np.ndarray) -> int:
    return int(rows_n[0]) if len(rows_n) else -1


def _read(source: CellSource, indices_n: np.ndarray) -> tuple[np.ndarray, Cells]:
    rows_n = indices_n[indices_n >= 0]
    return rows_n, source.read(rows_n)


def _whole(batches: PackedBatches, indices_n: np.ndarray) -> PackedBatches:
    return batches
