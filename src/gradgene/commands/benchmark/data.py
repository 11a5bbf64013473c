"""`gradgene benchmark data`: writing, streaming and tokenising synthetic cells."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gradgene.cells.synthetic import write_synthetic_shards
from gradgene.commands.benchmark.data_streaming import StreamRun, stream_epoch
from gradgene.commands.benchmark.data_tokenising import TokenisingSpeed, read_case, time_tokenising
from gradgene.commands.benchmark.figures import (
    Figure,
    Findings,
    check_positive,
    in_fresh_process,
)
from gradgene.errors import OutputError
from gradgene.lit.streaming import Streaming

__all__ = ["Settings", "measure"]

#: Bytes that an entry of the matrix takes in a file, with room to spare (measured: 7.6).
BYTES_AN_ENTRY = 9


@dataclass(frozen=True)
class Settings:
    """Settings of `gradgene benchmark data`; see `gradgene benchmark --help`.

    Raises `ConfigError` for a number that is not positive.
    """

    cells: int = 1_000_000
    shards: int = 20
    genes: int = 20_000
    genes_per_cell: int = 300
    batch_tokens: int = Streaming.batch_tokens
    fetch_cells: int = Streaming.fetch_cells
    block_cells: int = Streaming.block_cells
    workers: int = Streaming.workers
    tokenise_cells: int = 4_000
    tokenise_genes: int = 2_000
    tokenise_batch: int = 256
    loop_cells: int = 400
    keep: bool = False
    folder: str | None = None
    seed: int = 0
    output_dir: str = "runs/benchmark_data"

    def __post_init__(self) -> None:
        positive = "cells shards genes genes_per_cell batch_tokens".split()
        check_positive(
            self, *positive, "tokenise_cells", "tokenise_genes", "tokenise_batch", "loop_cells"
        )
        self.streaming  # noqa: B018  checks its numbers

    @property
    def streaming(self) -> Streaming:
        """How the epoch is read and batched."""
        return Streaming(self.batch_tokens, self.fetch_cells, self.block_cells, self.workers)


def measure(settings: Settings, console: Console) -> Findings:
    """Write the cells, stream an epoch of them in a process of its own, tokenise long cells.

    Raises
    ------
    OutputError
        If the disk has too little room for the cells.
    CellsError
        If the epoch misses a cell or repeats one.
    """
    with _shards_folder(settings, console) as folder:
        _require_room(settings, folder)
        with console.status(f"writing {settings.cells:,} cells in {settings.shards} shards"):
            started = time.perf_counter()
            written = write_synthetic_shards(
                folder / "stream",
                settings.cells,
                settings.shards,
                n_genes=settings.genes,
                genes_per_cell=settings.genes_per_cell,
                seed=settings.seed,
            )
            seconds = time.perf_counter() - started
        paths = tuple(map(str, written.paths))
        size = sum(path.stat().st_size for path in written.paths)
        figures = writing_figures(settings, seconds, size)
        with console.status(f"streaming {settings.cells:,} cells"):
            run = in_fresh_process(stream_epoch, paths, settings.streaming, settings.seed)
        run.require_each_cell_once()
        figures += streaming_figures(run)
        with console.status("tokenising"):
            figures += tokenising_figures(tokenise(settings, folder), settings)
    return Findings(tuple(figures), {"memory": run.memory_table()})


def tokenise(settings: Settings, folder: Path) -> TokenisingSpeed:
    """Write one file of long cells and tokenise it both ways."""
    written = write_synthetic_shards(
        folder / "tokenise",
        settings.tokenise_cells,
        n_genes=max(settings.genes, 2 * settings.tokenise_genes),
        genes_per_cell=settings.tokenise_genes,
        unknown=0.0,
        seed=settings.seed,
    )
    case = read_case(written.paths[0])
    return time_tokenising(*case, settings.loop_cells, settings.tokenise_batch)


def writing_figures(settings: Settings, seconds: float, size: int) -> list[Figure]:
    """How long the shards took and how large they are."""
    shape = f"{settings.shards} files of {settings.genes:,} genes"
    return [
        Figure("writing", "cells", settings.cells / seconds, "/s", note=shape),
        Figure("writing", "time", seconds, "s"),
        Figure("writing", "size", size / 1e6, "MB"),
    ]


def streaming_figures(run: StreamRun) -> list[Figure]:
    """Speed, memory and padding of the epoch."""
    per_cell = f"{run.n_tokens / run.n_cells:.0f} tokens a cell"
    resident = run.memory_table()["resident_mb"]
    growth = float(resident.iloc[-1] - resident.iloc[len(resident) // 2])
    before = f"{resident.iloc[0]:.0f} MB before the first batch"
    part = "streaming"
    return [
        Figure(part, "cells", run.n_cells / run.seconds, "/s", note=per_cell),
        Figure(part, "tokens", run.n_tokens / run.seconds, "/s"),
        Figure(part, "peak resident memory", run.peak_mb, "MB", at_most=2000, note=before),
        Figure(part, "memory, end less halfway", growth, "MB"),
        Figure(part, "padding", 100 * run.padding, "%", at_most=10, note="of all positions"),
        Figure(part, "opening, planning", run.open_seconds, "s"),
        Figure(part, "cells missed, repeated", run.missed + run.repeated, at_most=0),
    ]


def tokenising_figures(speed: TokenisingSpeed, settings: Settings) -> list[Figure]:
    """Speed of both ways and their ratio."""
    genes = f"{speed.genes_per_cell:.0f} genes a cell, one thread"
    batch = f"{settings.tokenise_batch} at a time"
    part = "tokenising"
    return [
        Figure(part, "cells", speed.ours, "/s", at_least=10_000, note=genes),
        Figure(part, "cells, from counts", speed.with_normalising, "/s", note=batch),
        Figure(part, "cells, AnnData loop", speed.loop, "/s", note="one at a time"),
        Figure(part, "ours / loop", speed.ratio, "x", at_least=30, note="equal tokens"),
    ]


@contextmanager
def _shards_folder(settings: Settings, console: Console) -> Iterator[Path]:
    """A new folder for the shards, gone afterwards unless they are to be kept."""
    parent = Path(settings.folder).expanduser() if settings.folder else None
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="gradgene-benchmark-", dir=parent))
    try:
        yield folder
    finally:
        if settings.keep:
            console.print(f"shards kept: {folder}")
        else:
            shutil.rmtree(folder)


def _require_room(settings: Settings, folder: Path) -> None:
    """Raise `OutputError` if the disk is too full for what will be written."""
    entries = settings.cells * settings.genes_per_cell
    entries += settings.tokenise_cells * settings.tokenise_genes
    needed, free = entries * BYTES_AN_ENTRY, shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            "has too little room for the synthetic cells",
            where=str(folder.parent),
            expected=f"{needed / 1e9:.1f} GB",
            found=f"{free / 1e9:.1f} GB free",
            fix="choose another disk with folder=..., or fewer cells with cells=...",
        )
