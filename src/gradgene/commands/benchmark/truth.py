"""`gradgene benchmark truth`: which ranking finds the genes that were planted?"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from gradgene.attribution import METHODS
from gradgene.cells import FIRST_TEST_SEED, PLANTED_LEVELS
from gradgene.commands.benchmark.figures import Findings, check_positive
from gradgene.commands.benchmark.truth_figures import DEFAULT, truth_figures
from gradgene.commands.benchmark.truth_seed import (
    ARMS,
    MAIN_ARM,
    SeedJob,
    run_seed,
)
from gradgene.commands.benchmark.truth_tables import read_truth, summary_of
from gradgene.errors import ConfigError, closest
from gradgene.plotting.truth import truth_by_arm, truth_overview

__all__ = ["Settings", "measure"]

#: What the level "smoke" runs by default: it must be done in a minute.
SMOKE_METHODS = (DEFAULT, "grad_x_delta", "integrated_gradients", "random")
SMOKE_ARMS = (MAIN_ARM, "empty")


@dataclass(frozen=True)
class Settings:
    """Settings of `gradgene benchmark truth`; see `gradgene benchmark --help`.

    Raises `ConfigError` for an unknown level, method or arm, a number that is not positive, or a
    device that is not there.
    """

    level: str = "default"
    seeds: int | None = None
    first_seed: int = FIRST_TEST_SEED
    methods: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    pairs: int | None = None
    other_pairs: int = 150
    n_random: int = 20
    jobs: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    seed: int = 0
    output_dir: str = "runs/benchmark_truth"

    def __post_init__(self) -> None:
        check_positive(self, "seeds", "pairs", "other_pairs", "n_random", "jobs", "threads")
        for where in ("first_seed", "seed"):
            if getattr(self, where) < 0:
                raise ConfigError("is no seed", where=where, expected="0 or more")
        for where, given, known in (
            ("level", [self.level], PLANTED_LEVELS),
            ("methods", self.methods, METHODS),
            ("arms", self.arms, ARMS),
        ):
            for name in given:
                if name not in known:
                    raise ConfigError(
                        f"there is no {name!r}",
                        where=where,
                        expected=f"one of {closest(name, known, n=len(known))}",
                    )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("torch finds no CUDA device", where="device", fix="write device=cpu")

    @property
    def smoke(self) -> bool:
        """Whether this is the check of a minute."""
        return self.level == "smoke"

    @property
    def chosen_methods(self) -> tuple[str, ...]:
        """The methods asked for, the default method first where it is one of them."""
        methods = self.methods or (SMOKE_METHODS if self.smoke else tuple(METHODS))
        return tuple(sorted(dict.fromkeys(methods), key=lambda name: name != DEFAULT))

    @property
    def chosen_arms(self) -> tuple[str, ...]:
        """The arms asked for, in their order."""
        arms = self.arms or (SMOKE_ARMS if self.smoke else tuple(ARMS))
        return tuple(arm for arm in ARMS if arm in arms)

    def seed_jobs(self) -> list[SeedJob]:
        """What is to be done for each simulation seed, each with a model seed of its own."""
        n_seeds = self.seeds or (1 if self.smoke else 3)
        folder = Path(self.output_dir).expanduser().resolve()
        pairs = self.pairs or PLANTED_LEVELS[self.level].n_pairs
        return [
            SeedJob(
                level=self.level,
                cells_seed=self.first_seed + i,
                model_seed=self.seed + i,
                folder=str(folder / f"{self.level}-{self.first_seed + i}-{self.seed + i}"),
                methods=self.chosen_methods,
                arms=self.chosen_arms,
                pairs=pairs,
                other_pairs=min(self.other_pairs, pairs),
                n_random=self.n_random,
                device=self.device,
                threads=self.threads,
            )
            for i in range(n_seeds)
        ]


def measure(settings: Settings, console: Console) -> Findings:
    """Plant, train and rank for every seed, going on where it was, then judge all rankings.

    Raises
    ------
    GradgeneError
        What the framework says of a seed's run, for example that its folder holds another model.
    """
    seed_jobs = settings.seed_jobs()
    for job in run_all(seed_jobs, settings.jobs or min(len(seed_jobs), os.cpu_count() or 1)):
        console.print(f"seed {job.cells_seed}: done", highlight=False)
    truth = read_truth(seed_jobs)
    console.print(shown(truth.overview()))
    pictures = {
        "truth": truth_overview(truth.overview()),
        "truth_by_arm": truth_by_arm(truth.by_arm()),
    }
    figures = truth_figures(truth, PLANTED_LEVELS[settings.level])
    return Findings(tuple(figures), truth.tables(), pictures)


def run_all(seed_jobs: Sequence[SeedJob], n_processes: int) -> Iterator[SeedJob]:
    """Run seeds side by side in new processes, or one after the other in this one; yield each."""
    if n_processes == 1:
        for job in seed_jobs:
            run_seed(job)
            yield job
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        for job, _ in zip(seed_jobs, pool.map(run_seed, seed_jobs), strict=True):
            yield job


def shown(overview: pd.DataFrame) -> Table:
    """The default ranking of each method and the controls, for the terminal."""
    table = Table(title=f"{MAIN_ARM} pairs: AUPRC is the median over seeds")
    table.add_column("ranking", no_wrap=True)
    columns = {
        "AUPRC": "auprc",
        "least": "auprc_min",
        "most": "auprc_max",
        "recall": "recall",
        "XOR": "xor_recall",
        "decoys": "decoys_top10",
    }
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary_of(overview).to_dict("records"):
        table.add_row(row["ranking"], *(f"{row[column]:.2f}" for column in columns.values()))
    return table
