"""One shuffled epoch through the loader of pretraining, and the memory that it takes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.cells import CellSchema, CellShards
from gradgene.commands.benchmark.data_tokenising import BIN_EDGES, PHENOTYPES
from gradgene.commands.run.memory import peak_mb, resident_mb
from gradgene.errors import CellsError
from gradgene.lit.streaming import Streaming, TokenStream
from gradgene.tokens import Tokenizer, Vocabulary
from gradgene.tokens.masking import cell_seeds

__all__ = ["StreamRun", "missed_and_repeated", "open_stream", "stream_epoch"]

#: Memory is noted this often in an epoch.
SAMPLES = 20


@dataclass(frozen=True)
class StreamRun:
    """What one epoch gave and took.

    Attributes
    ----------
    n_cells, n_tokens, n_positions
        Cells and tokens served, and the tokens with their padding.
    open_seconds, seconds
        Until the files were open and the epoch planned, and from there to its last batch.
    memory
        (cells served, resident MB) every twentieth of the epoch, workers included.
    peak_mb
        Highest resident memory, workers included as far as they were sampled.
    missed, repeated
        Numbers of cells that were not served, and of servings too many.
    """

    n_cells: int
    n_tokens: int
    n_positions: int
    open_seconds: float
    seconds: float
    memory: tuple[tuple[int, float], ...]
    peak_mb: float
    missed: int
    repeated: int

    @property
    def padding(self) -> float:
        """Share of all positions that hold no token."""
        return 1 - self.n_tokens / self.n_positions

    def require_each_cell_once(self) -> None:
        """Raise `CellsError` if any cell was missed or served twice."""
        if self.missed or self.repeated:
            raise CellsError(
                "an epoch must serve every cell once",
                where="streaming",
                found=f"{self.missed} missed, {self.repeated} repeated",
            )

    def memory_table(self) -> pd.DataFrame:
        """`cells, resident_mb`, a row a sample."""
        return pd.DataFrame(self.memory, columns=["cells", "resident_mb"])


def stream_epoch(paths: Sequence[str], streaming: Streaming, seed: int) -> StreamRun:
    """Open the files and take every batch of one shuffled epoch; meant for a fresh process."""
    started = time.perf_counter()
    stream = open_stream(paths, streaming, seed)
    n = len(stream.rows_n)
    opened = time.perf_counter()
    served: list[np.ndarray] = []
    n_cells = n_tokens = n_positions = 0
    memory = [(0, _all_resident_mb())]
    for batch in stream:
        served.append(batch.seeds_n.numpy())
        n_cells += len(batch)
        n_tokens += int(batch.tokens.attention_mask_nt.sum())
        n_positions += batch.tokens.input_ids_nt.numel()
        if n_cells * SAMPLES >= len(memory) * n:
            memory.append((n_cells, _all_resident_mb()))
    ended = time.perf_counter()
    missed, repeated = missed_and_repeated(
        np.concatenate(served), cell_seeds(stream.rows_n, seed, 0).numpy()
    )
    return StreamRun(
        n_cells=n_cells,
        n_tokens=n_tokens,
        n_positions=n_positions,
        open_seconds=opened - started,
        seconds=ended - opened,
        memory=tuple(memory),
        peak_mb=max(peak_mb(), *(resident for _, resident in memory)),
        missed=missed,
        repeated=repeated,
    )


def open_stream(paths: Sequence[str], streaming: Streaming, seed: int) -> TokenStream:
    """One shuffled epoch of all cells, each of whose genes and labels has a token."""
    shards = CellShards.open(list(paths), CellSchema(PHENOTYPES))
    labels = {c: tuple(sorted(shards.obs[c].dropna().unique())) for c in PHENOTYPES}
    vocabulary = Vocabulary(labels, PHENOTYPES, shards.genes, BIN_EDGES)
    tokenizer = Tokenizer(vocabulary, shards.schema)
    return TokenStream(shards, tokenizer, np.arange(len(shards)), streaming, seed=seed)


def missed_and_repeated(served_n: np.ndarray, wanted_n: np.ndarray) -> tuple[int, int]:
    """How many of `wanted_n` (distinct) were not served, and how many servings were too many.

    A cell's seed in an epoch is a one-to-one function of its row, so it stands for the cell.
    """
    distinct_n, times_n = np.unique(served_n, return_counts=True)
    known_n = np.isin(distinct_n, wanted_n)
    missed = len(wanted_n) - int(known_n.sum())
    return missed, int((times_n - 1).sum() + (~known_n).sum())


def _all_resident_mb() -> float:
    """Resident memory of this process and of its loader workers, shared pages counted in each."""
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    return resident_mb() + sum(resident_mb(pid) for pid in workers)
