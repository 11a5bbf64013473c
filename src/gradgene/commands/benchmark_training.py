"""`gradgene benchmark training`: our training against `transformers.Trainer`, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import hydra
import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from rich.console import Console

from gradgene.commands.benchmark_arms import (
    ARMS,
    ArmRun,
    TrainingJob,
    require_transformers,
    run_arm,
)
from gradgene.commands.benchmark_figures import (
    Figure,
    Findings,
    check_positive,
    in_fresh_process,
    peak_mb,
    resident_mb,
)
from gradgene.commands.binding import bind, build
from gradgene.commands.groups import conf_dir, groups
from gradgene.errors import ConfigError, closest
from gradgene.lit import CellDataModule, PhenotypeModule
from gradgene.seeding import seed_everything
from gradgene.tokens import TokenBatch

__all__ = ["Settings", "compare", "make_job", "measure"]

#: Our training with one switch of the model on.
VARIANTS = {
    "checkpointing": {"checkpoint_activations": True},
    "torch.compile": {"compile": True},
}
#: Losses that differ by more than this, relatively, come from two different trainings.
SAME_LOSS = 1e-3


@dataclass(frozen=True)
class Settings:
    """Settings of `gradgene benchmark training`; see `gradgene benchmark --help`.

    Raises `ConfigError` for a number that is not positive or a device that is not there.
    """

    experiment: str = "demo"
    model: str = "tiny"
    steps: int = 50
    warm_up: int = 5
    batch_size: int = 32
    genes_per_cell: int = 150
    repeats: int = 3
    memory: bool = True
    variants: bool = True
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    threads: int | None = None
    seed: int = 0
    output_dir: str = "runs/benchmark_training"

    def __post_init__(self) -> None:
        check_positive(
            self, "steps", "warm_up", "batch_size", "genes_per_cell", "repeats", "threads"
        )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("torch finds no CUDA device", where="device", fix="write device=cpu")


@dataclass(frozen=True)
class Footprint:
    """One training in a process of its own: resident memory before its first step and at most."""

    run: ArmRun
    before_mb: float
    peak_mb: float


def measure(settings: Settings, console: Console) -> Findings:
    """Train in turns, compare, then take the memory of each way in a process of its own.

    Raises
    ------
    ConfigError
        If transformers is not installed or the configuration does not fit.
    """
    require_transformers()
    job = make_job(settings)
    runs = [
        _said(console, f"turn {turn + 1} of {settings.repeats}", job, arm)
        for turn in range(settings.repeats)
        for arm in ARMS
    ]
    figures = compare(job, runs)
    tables = {"steps": steps_table(runs)}
    if settings.memory:
        figures += footprints(settings, console)
    return Findings(tuple(figures), tables)


def make_job(settings: Settings, **model: Any) -> TrainingJob:
    """The experiment's cells as batches, and a fresh model with the arguments `model` changed.

    Raises
    ------
    ConfigError
        If an experiment or model is unknown, or there are fewer cells than one batch takes.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    cfg = _config(settings)
    seed_everything(settings.seed)
    data: CellDataModule = build(cfg.data)
    data.setup()
    module = PhenotypeModule(
        model=build(cfg.model)(data.tokenizer.vocabulary, **model),
        schema=data.schema,
        target=cfg.study.target,
        finetune=build(cfg.finetune),
        objective=build(cfg.objective),
        seed=settings.seed,
    )
    return TrainingJob(
        module=module,
        batches=_batches(data, settings.warm_up + settings.steps, settings.batch_size),
        warm_up=settings.warm_up,
        trainer=build(cfg.trainer),
        device=settings.device,
        precision=settings.precision,
        clip=cfg.trainer.gradient_clip_val,
    )


def compare(job: TrainingJob, runs: Sequence[ArmRun]) -> list[Figure]:
    """Speed of each way (median over its runs), their ratio, and how far their losses differ."""
    figures = []
    seconds = {arm: np.median([r.seconds for r in runs if r.arm == arm]) for arm in ARMS}
    setup = {arm: np.median([r.setup_seconds for r in runs if r.arm == arm]) for arm in ARMS}
    for arm in ARMS:
        figures += _speed(arm, job, float(seconds[arm]))
        figures.append(Figure(arm, "until the first step is done", float(setup[arm]), "s"))
    reference = runs[0].losses_k
    differ = max(float(np.max(np.abs(r.losses_k / reference - 1))) for r in runs)
    ratio = float(seconds["transformers"] / seconds["lightning"])
    # Turns follow each other closely, so each pair of neighbours met the same disturbances.
    pairs = [b.seconds / a.seconds for a, b in zip(runs[::2], runs[1::2], strict=True)]
    spread = f"{min(pairs):.2f} to {max(pairs):.2f} over {len(pairs)} turns"
    return [
        *figures,
        Figure("both", "speed, lightning / transformers", ratio, "x", at_least=1, note=spread),
        Figure(
            "both",
            "largest relative difference of losses",
            differ,
            at_most=SAME_LOSS,
            note=f"over {len(reference)} steps: it is the same training",
        ),
    ]


def steps_table(runs: Sequence[ArmRun]) -> pd.DataFrame:
    """`arm, run, step, loss, seconds`, a row a step; warm-up steps have no seconds."""
    frames = []
    for number, run in enumerate(runs):
        steps = np.arange(1, len(run.losses_k) + 1)
        seconds = np.full(len(steps), np.nan)
        seconds[-len(run.seconds_k) :] = run.seconds_k
        columns = {"arm": run.arm, "run": number, "step": steps, "loss": run.losses_k}
        frames.append(pd.DataFrame({**columns, "seconds": seconds}))
    return pd.concat(frames, ignore_index=True)


def footprints(settings: Settings, console: Console) -> list[Figure]:
    """Peak memory of each trainer and, if asked for, speed and memory with a switch on."""
    figures = []
    plain = None
    wanted: list[tuple[str, str, dict[str, Any]]] = [(arm, arm, {}) for arm in ARMS]
    if settings.variants:
        wanted += [(name, "lightning", changes) for name, changes in VARIANTS.items()]
    for name, arm, changes in wanted:
        with console.status(f"memory of {name}"):
            try:
                found = in_fresh_process(footprint, settings, arm, changes)
            except ConfigError as error:  # torch.compile where there is no compiler
                figures.append(Figure(name, "not measured", None, note=str(error)))
                continue
        plain = plain or found
        figures += _memory(name, found)
        if changes:
            ratio = plain.run.seconds / found.run.seconds
            figures.append(Figure(name, "speed, on / off", ratio, "x", note="one run of each"))
    return figures


def footprint(settings: Settings, arm: str, changes: dict[str, Any]) -> Footprint:
    """Train once; meant for a process of its own."""
    job = make_job(settings, **changes)
    before = resident_mb()
    run = run_arm(job, arm)
    return Footprint(run, before, peak_mb())


def _said(console: Console, turn: str, job: TrainingJob, arm: str) -> ArmRun:
    with console.status(f"{turn}: {arm}"):
        return run_arm(job, arm)


def _speed(part: str, job: TrainingJob, seconds: float) -> list[Figure]:
    return [
        Figure(part, "cells", job.n_cells / seconds, "/s"),
        Figure(part, "tokens", job.n_tokens / seconds, "/s"),
    ]


def _memory(part: str, found: Footprint) -> list[Figure]:
    added = found.peak_mb - found.before_mb
    note = f"{found.before_mb:.0f} MB before the first step"
    return [
        Figure(part, "peak resident memory", found.peak_mb, "MB", note=note),
        Figure(part, "of it added by training", added, "MB"),
    ]


def _batches(data: CellDataModule, n: int, batch_size: int) -> list[TokenBatch]:
    """`n` whole training batches, epoch after epoch."""
    loader = data.train_dataloader()
    batches: list[TokenBatch] = []
    for epoch in count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        batches += [batch for batch in loader if len(batch) == batch_size]
        if len(batches) >= n:
            return batches[:n]
        if not batches:
            raise ConfigError(
                "is more than all training cells", where="batch_size", found=str(batch_size)
            )
    raise AssertionError("unreachable: epochs do not end")


def _config(settings: Settings) -> DictConfig:
    """The composed and checked configuration of the experiment."""
    known = groups(conf_dir())
    for group in ("experiment", "model"):
        leaf = getattr(settings, group)
        if leaf not in known[group]:
            raise ConfigError(
                f"no such leaf {leaf!r}",
                where=group,
                expected=f"one of {closest(leaf, known[group])}",
            )
    overrides = [
        f"experiment={settings.experiment}",
        f"model={settings.model}",
        f"trainer={'gpu' if settings.device == 'cuda' else 'cpu'}",
        f"trainer.precision={settings.precision}",
        f"data.batch_size={settings.batch_size}",
        f"data.train_tokens={settings.genes_per_cell}",
        f"study.seed={settings.seed}",
        "finetune.arm=full",
        "finetune.schedule=constant",
    ]
    with hydra.initialize_config_dir(str(Path(conf_dir())), version_base="1.3"):
        cfg = hydra.compose("config", overrides)
    bind(cfg)
    return cfg
