"""`gradgene benchmark pruning`: the paper's grid, ours against one pair at a time, in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from gradgene.cells import Cells, CellSchema, read_cells, write_synthetic_shards
from gradgene.commands.benchmark.attribution_case import TARGET, vocabulary_of
from gradgene.commands.benchmark.data_tokenising import PHENOTYPES
from gradgene.commands.benchmark.figures import Figure, Findings, check_positive
from gradgene.commands.benchmark.pruning_loop import LoopTimes, run_loop
from gradgene.errors import ConfigError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import (
    GeneRanking,
    Judged,
    PruningSettings,
    deg_ranking,
    expression_ranking,
    hvg_ranking,
    places,
    predict_pairs,
    prune,
    random_rankings,
)
from gradgene.tokens import Tokenizer

__all__ = ["Settings", "measure"]

#: The paper's shares of genes removed.
RATIOS: tuple[float, ...] = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
RATIOS += (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
#: Pairs that are pruned together, as `gradgene prune` does.
PAIRS_A_PIECE = 64
#: Cells written for each pair, half of them of each label on average.
CELLS_A_PAIR = 2.2

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """Settings of `gradgene benchmark pruning`; see `gradgene benchmark --help`.

    Raises `ConfigError` for a number that is not positive, or a device that is not there.
    """

    pairs: int = 500
    genes: int = 2000
    genes_per_cell: int = 510
    ratios: tuple[float, ...] = RATIOS
    loop_pairs: int = 4
    batch_tokens: int = 4096
    dim: int = 64
    n_layers: int = 2
    n_heads: int = 4
    hidden_dim: int = 256
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int | None = None
    seed: int = 0
    output_dir: str = "runs/benchmark_pruning"

    def __post_init__(self) -> None:
        numbers = {name for name, value in vars(self).items() if isinstance(value, int)}
        check_positive(self, *(numbers - {"seed"}))
        self.grid  # noqa: B018  checks the ratios
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("torch finds no CUDA device", where="device", fix="write device=cpu")

    @property
    def grid(self) -> PruningSettings:
        """The ratios in both orders."""
        return PruningSettings(self.ratios, batch_tokens=self.batch_tokens)


@dataclass(frozen=True)
class _Case:
    """Pairs of the planted contrast: the i-th cell of one label with the i-th of the other."""

    file: Path
    cells: Cells
    tokenizer: Tokenizer
    model: PhenotypeGeneTransformer
    rankings: list[GeneRanking]

    @property
    def n_pairs(self) -> int:
        return len(self.cells) // 2

    def names(self, n: int) -> list[tuple[str, str]]:
        """Names of the cells of the first `n` pairs."""
        names = list(map(str, self.cells.obs.index))
        return list(zip(names[:n], names[self.n_pairs : self.n_pairs + n], strict=True))


def measure(settings: Settings, console: Console) -> Findings:
    """Prune all pairs by five rankings, then a few of them one at a time."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory(prefix="gradgene-benchmark-") as folder:
        case = _make_case(settings, Path(folder))
        console.print(f"{case.n_pairs} pairs, {len(settings.grid.points)} points, 5 rankings")
        _warm_up(case, settings)
        with console.status("pruning all pairs"):
            p_kmc, ours = _timed(lambda: _prune_pairs(case, settings))
        with console.status("pruning the panel of all cells"):
            _, held_out = _timed(lambda: _prune_panel(case, settings))
        n = min(settings.loop_pairs, case.n_pairs)
        with console.status(f"pruning {n} pairs one at a time"):
            loop = run_loop(
                case.model,
                case.tokenizer,
                case.file,
                case.names(n),
                case.rankings,
                settings.grid,
                TARGET.category,
            )
    off = _difference(p_kmc, loop, n, settings, len(case.rankings))
    return _findings(settings, case.n_pairs, n, ours, held_out, loop, off)


def _make_case(settings: Settings, folder: Path) -> _Case:
    """Cells of the two labels in one file, a model of random weights, and five rankings.

    How fast a model is does not depend on what it learnt.
    """
    written = write_synthetic_shards(
        folder,
        int(CELLS_A_PAIR * settings.pairs) + 50,
        n_genes=settings.genes,
        genes_per_cell=settings.genes_per_cell,
        unknown=0.0,
        seed=settings.seed,
    )
    cells = read_cells(str(written.paths[0]), CellSchema(PHENOTYPES, donor="donor_id"))
    model = PhenotypeGeneTransformer(
        vocabulary_of(cells),
        dim=settings.dim,
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        hidden_dim=settings.hidden_dim,
    )
    tokenizer = Tokenizer(model.vocabulary, cells.schema)
    labels = cells.obs[TARGET.category].to_numpy()
    sides = [np.flatnonzero(labels == label) for label in (TARGET.label, TARGET.against)]
    n = min(settings.pairs, *map(len, sides))
    cells = tokenizer.prepare(cells.take(np.concatenate([side[:n] for side in sides])))
    rankings = [
        hvg_ranking(cells),
        deg_ranking(cells, TARGET.category, TARGET.label, str(TARGET.against)),
        expression_ranking(cells),
        *random_rankings(cells.genes, 2, settings.seed),
    ]
    return _Case(written.paths[0], cells, tokenizer, model.to(settings.device).eval(), rankings)


def _warm_up(case: _Case, settings: Settings) -> None:
    """What is done once in a process is counted for nobody."""
    few = case.cells.take(np.arange(2))
    scores = [np.zeros((1, len(case.cells.genes)))]
    grid = PruningSettings((0.5,), "lowest_first", batch_tokens=settings.batch_tokens)
    predict_pairs(case.model, case.tokenizer.encode(few), scores, grid, TARGET.category)


def _prune_pairs(case: _Case, settings: Settings) -> np.ndarray:
    """Tokenise and prune all pairs: (points, members, labels), inputs first."""
    tokens, n = case.tokenizer.encode(case.cells), case.n_pairs
    scores = [-places(ranking)[None].astype(np.float32) for ranking in case.rankings]
    said = []
    for start in range(0, n, PAIRS_A_PIECE):
        rows = torch.arange(start, min(start + PAIRS_A_PIECE, n))
        of_pairs = [
            np.broadcast_to(score_1g, (len(rows), score_1g.shape[1])) for score_1g in scores
        ]
        members = tokens.take(torch.cat([rows, n + rows]))
        p_kmc = predict_pairs(case.model, members, of_pairs, settings.grid, TARGET.category)
        said.append(p_kmc.reshape(len(p_kmc), 2, len(rows), -1))
    p_k2pc = np.concatenate(said, axis=2)
    return p_k2pc.reshape(len(p_k2pc), 2 * n, -1)


def _prune_panel(case: _Case, settings: Settings) -> None:
    """Tokenise all cells, prune the panel by global rankings, and take every metric."""
    judged = Judged.of(
        case.cells, case.tokenizer, TARGET.category, TARGET.label, str(TARGET.against)
    )
    prune(case.model, judged, case.rankings, settings.grid).summary()


def _timed(work: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """The result, and seconds of wall and of processor time."""
    started, cpu = time.perf_counter(), time.process_time()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, (time.perf_counter() - started, time.process_time() - cpu)


def _difference(
    p_kmc: np.ndarray, loop: LoopTimes, n: int, settings: Settings, n_rankings: int
) -> float:
    """Largest difference of a probability between ours and the loop's, over its pairs."""
    grid = settings.grid.grid
    n_pairs, at = p_kmc.shape[1] // 2, iter(loop.probabilities)
    worst, first = 0.0, 1
    for _ in range(n_rankings):
        for ratios in grid.values():
            for pair in range(n):
                for k in range(len(ratios)):
                    for member in (pair, n_pairs + pair):
                        off = np.abs(next(at) - p_kmc[first + k, member]).max()
                        worst = max(worst, float(off))
            first += len(ratios)
    return worst


def _findings(
    settings: Settings,
    n_pairs: int,
    n: int,
    ours: tuple[float, float],
    held_out: tuple[float, float],
    loop: LoopTimes,
    off: float,
) -> Findings:
    """Times of the whole grid; those of the loop are scaled from `n` pairs."""
    scale = n_pairs / n
    scaled = f"{n} of {n_pairs} pairs timed, and scaled"
    grid = f"{len(settings.grid.points) * 5 * 2 * n_pairs:,} predictions, equal ones once"
    warmed = loop.cut + loop.predict
    part, one = "grid", "one pair at a time"
    figures = (
        Figure(part, "ours, by pair", ours[0], "s", at_most=600, note=grid),
        Figure(part, "ours, held-out panel", held_out[0], "s", at_most=600, note="with metrics"),
        Figure(one, "all", scale * loop.total, "s", note=scaled),
        Figure(one, "reading and tokenising", scale * loop.read, "s"),
        Figure(one, "choosing and cutting", scale * loop.cut, "s"),
        Figure(one, "model", scale * loop.predict, "s", note="every position, one cell a batch"),
        Figure("ratio", "all / ours", scale * loop.total / ours[0], "x", at_least=10),
        Figure(
            "ratio", "without reading / ours", scale * warmed / ours[0], "x", note="cells in memory"
        ),
        Figure("ratio", "model alone / ours", scale * loop.predict / ours[0], "x"),
        Figure("agreement", "largest difference", off, at_most=1e-4, note="of a probability"),
    )
    raw = pd.DataFrame(
        [
            ("ours, by pair", *ours, n_pairs),
            ("ours, held-out panel", *held_out, n_pairs),
            ("one pair at a time", loop.total, loop.cpu, n),
        ],
        columns=["what", "seconds", "cpu_seconds", "pairs"],
    )
    return Findings(figures, {"times": raw})
