"""`gradgene benchmark attribution`: every method on the same pairs of one model, beside Captum."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as Picture
from rich.console import Console
from rich.table import Table

from gradgene.attribution import METHODS
from gradgene.cells import Cells
from gradgene.commands.benchmark.attribution_case import (
    accuracy,
    crossed_pairs,
    draw_cells,
    matched_pairs,
    train,
    vocabulary_of,
)
from gradgene.commands.benchmark.attribution_goals import (
    crossed_figures,
    ratio_figures,
    time_crossed,
)
from gradgene.commands.benchmark.attribution_memory import (
    FULL,
    Shape,
    added_by,
    fit_memory,
    memory_figures,
)
from gradgene.commands.benchmark.attribution_methods import (
    GRADIENT,
    ONE_FORWARD_A_GENE,
    Job,
    MethodRun,
    method_table,
    run_alone,
)
from gradgene.commands.benchmark.figures import Figure, Findings, check_positive, in_fresh_process
from gradgene.errors import ConfigError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.plotting import memory_by_length, method_comparison

__all__ = ["Settings", "measure"]

#: Cells drawn for each pair wanted, so that every input finds a control that matches.
CELLS_A_PAIR = 12
#: Cells that the trained model is judged on.
JUDGED = 200


@dataclass(frozen=True)
class Settings:
    """Settings of `gradgene benchmark attribution`; see `gradgene benchmark --help`.

    Raises `ConfigError` for a number that is not positive, more baselines than inputs, or a device
    that is not there.
    """

    genes: int = 2500
    short_genes: int = 60
    short_pairs: int = 16
    repeats: int = 1
    long_genes: int = 1000
    long_pairs: int = 2
    turns: int = 2
    inputs: int = 64
    baselines: int = 16
    captum_pairs: int = 2
    n_steps: int = 20
    dim: int = 256
    n_layers: int = 6
    n_heads: int = 8
    hidden_dim: int = 1024
    train_cells: int = 2000
    train_steps: int = 200
    train_genes: int = 50
    memory: bool = False
    memory_genes: tuple[int, ...] = (500, 1000, 1500, 2000)
    memory_layers: tuple[int, ...] = (2, 4)
    memory_pairs: int = 8
    memory_dim: int = 768
    memory_heads: int = 12
    full: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None
    seed: int = 0
    output_dir: str = "runs/benchmark_attribution"

    def __post_init__(self) -> None:
        zero = {"train_steps", "seed", "memory", "full"}
        numbers = {name for name, value in vars(self).items() if isinstance(value, int)}
        check_positive(self, *(numbers - zero))
        if self.baselines > self.inputs:
            raise ConfigError(
                "is more than there are controls, of which there are as many as inputs",
                where="baselines",
                expected=f"at most inputs={self.inputs}",
                found=str(self.baselines),
            )
        if self.memory and min((*self.memory_genes, *self.memory_layers), default=0) < 1:
            raise ConfigError("need a number above 0 each", where="memory_genes, memory_layers")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("torch finds no CUDA device", where="device", fix="write device=cpu")


def measure(settings: Settings, console: Console) -> Findings:
    """Train a model, run each method alone on short and long pairs, then take the goals' ratios.

    Raises
    ------
    ConfigError
        If there are too few genes for what is asked.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    model, figures = _trained_model(settings, console)
    tables: dict[str, pd.DataFrame] = {}
    pictures: dict[str, Picture] = {}
    with tempfile.TemporaryDirectory(prefix="gradgene-benchmark-") as folder:
        short = _short(settings, model, Path(folder) / "short", console)
        tables["methods"] = method_table(short)
        pictures["methods"] = method_comparison(tables["methods"])
        console.print(_shown(tables["methods"], f"{settings.short_genes} genes a cell"))
        cells = _cells(settings, settings.long_genes, max(2 * settings.inputs, settings.long_pairs))
        long = _long(
            settings,
            matched_pairs(model, cells, settings.long_pairs, settings.seed, "cpu").write(
                Path(folder) / "long"
            ),
            console,
        )
    tables["methods_long"] = method_table(long)
    tables["runs"] = _runs_table({"short": short, "long": long})
    console.print(_shown(tables["methods_long"], f"{settings.long_genes} genes a cell"))
    figures += ratio_figures(long, settings.n_steps)
    crossed = crossed_pairs(model, cells, settings.inputs, settings.baselines, settings.device)
    n_inputs = len(crossed) // settings.baselines
    tables["crossed"] = time_crossed(
        crossed, n_inputs, settings.captum_pairs, settings.turns, settings.device, console
    )
    figures += crossed_figures(tables["crossed"], n_inputs)
    if settings.memory or settings.full:
        found, tables["memory"], picture = _memory(settings, console)
        figures += found
        pictures |= {} if picture is None else {"memory": picture}
    return Findings(tuple(figures), tables, pictures)


def _trained_model(
    settings: Settings, console: Console
) -> tuple[PhenotypeGeneTransformer, list[Figure]]:
    """A model that knows the planted contrast, and how well."""
    cells = draw_cells(
        settings.train_cells + JUDGED, settings.genes, settings.short_genes, settings.seed
    )
    model = PhenotypeGeneTransformer(
        vocabulary_of(cells),
        dim=settings.dim,
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        hidden_dim=settings.hidden_dim,
    ).to(settings.device)
    learned, judged = (
        cells.take(np.arange(len(cells))[part])
        for part in (slice(None, -JUDGED), slice(-JUDGED, None))
    )
    with console.status(f"training for {settings.train_steps} steps"):
        train(model, learned, settings.train_steps, settings.train_genes, settings.seed)
    note = f"{settings.train_steps} steps; of held-out cells of {settings.short_genes} genes"
    return model, [Figure("model", "accuracy", accuracy(model.eval(), judged), note=note)]


def _cells(settings: Settings, genes: int, pairs: int) -> Cells:
    """Cells that nothing was trained on."""
    return draw_cells(CELLS_A_PAIR * max(pairs, 8), settings.genes, genes, settings.seed + 1)


def _short(
    settings: Settings, model: PhenotypeGeneTransformer, folder: Path, console: Console
) -> dict[str, list[MethodRun]]:
    """Every method on short pairs: all of them are bearable there."""
    cells = _cells(settings, settings.short_genes, settings.short_pairs)
    matched_pairs(model, cells, settings.short_pairs, settings.seed, "cpu").write(folder)
    return {name: [_alone(settings, folder, name, console, gap=True)] for name in _by_name(METHODS)}


def _long(settings: Settings, folder: Path, console: Console) -> dict[str, list[MethodRun]]:
    """Every method that does not run the model once a gene on long pairs, in turns."""
    names = [GRADIENT, *_by_name(set(METHODS) - ONE_FORWARD_A_GENE)]
    runs: dict[str, list[MethodRun]] = {name: [] for name in names}
    for _ in range(settings.turns):
        for name in names:
            runs[name].append(_alone(settings, folder, name, console))
    return runs


def _by_name(names: Iterable[str]) -> list[str]:
    """Methods in an order that puts Captum's right behind ours."""
    return sorted(names, key=lambda name: (name.removeprefix("captum_"), name))


def _alone(
    settings: Settings, folder: Path, name: str, console: Console, gap: bool = False
) -> MethodRun:
    job = Job(
        folder=str(folder),
        method=name,
        n_steps=settings.n_steps,
        repeats=settings.repeats if gap and name not in ONE_FORWARD_A_GENE else 1,
        gap=gap,
        device=settings.device,
        threads=settings.threads,
    )
    with console.status(f"{name}, {folder.name} pairs"):
        return in_fresh_process(run_alone, job)


def _runs_table(parts: dict[str, dict[str, list[MethodRun]]]) -> pd.DataFrame:
    """`pairs, method, turn, run, n_pairs, seconds, before_mb, peak_mb`, a row a timed run."""
    rows = [
        {
            "pairs": part,
            "method": name,
            "turn": turn,
            "run": number,
            "n_pairs": run.n_pairs,
            "seconds": seconds,
            "before_mb": run.before_mb,
            "peak_mb": run.peak_mb,
        }
        for part, by_method in parts.items()
        for name, runs in by_method.items()
        for turn, run in enumerate(runs)
        for number, seconds in enumerate(run.seconds)
    ]
    return pd.DataFrame(rows)


def _memory(
    settings: Settings, console: Console
) -> tuple[list[Figure], pd.DataFrame, Picture | None]:
    """`deeplift` at several lengths and depths, each in a process of its own, then at full size."""
    size = (settings.memory_pairs, settings.memory_dim, settings.memory_heads)
    where = (settings.device, settings.threads)
    shapes = [
        Shape(n_genes, n_layers, *size, *where)
        for n_layers in settings.memory_layers
        for n_genes in settings.memory_genes
        if settings.memory
    ]
    rows = [_added(shape, console) for shape in shapes]
    table, full = pd.DataFrame(rows), None
    if settings.full:
        full = _added(Shape(FULL.n_genes, FULL.n_layers, *size, *where), console)
        console.print(f"peak of the full run: {full['peak_mb']:,.0f} MB")
    figures = memory_figures(table, full)
    if table.empty:
        return figures, pd.DataFrame([full]), None
    end = (FULL.n_genes, FULL.n_layers, None if full is None else full["added_mb"])
    picture = memory_by_length(table, fit_memory(table), end)
    return figures, pd.DataFrame([*rows, *([full] if full else [])]), picture


def _added(shape: Shape, console: Console) -> dict[str, float]:
    with console.status(f"memory at {shape.n_genes:,} genes, {shape.n_layers} layers"):
        return in_fresh_process(added_by, shape)


def _shown(table: pd.DataFrame, title: str) -> Table:
    """The table of methods for the terminal."""
    pairs = f"{table['n_pairs'].iloc[0]:.0f} pairs"
    shown = Table(title=f"{title}, {pairs}")
    shown.add_column("method", no_wrap=True)
    for head in ("s a pair", "x Captum", "peak MB", "added", "delta", "at most", "swap-gap"):
        shown.add_column(head, justify="right")
    for row in table.to_dict("records"):
        gap = "" if pd.isna(row["gap"]) else f"{row['gap']:.2f}"
        if not pd.isna(row["gap_low"]):
            gap += f" ±{row['gap_high'] - row['gap']:.2f}"
        deltas = ("" if pd.isna(row[c]) else f"{row[c]:.0e}" for c in ("delta_median", "delta_max"))
        memory = (f"{row[c]:,.0f}" for c in ("peak_mb", "added_mb"))
        speed = (f"{row['seconds_per_pair']:.3g}", f"{row['captum_ratio']:.3g}")
        shown.add_row(row["method"], *speed, *memory, *deltas, gap)
    return shown
