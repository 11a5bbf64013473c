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

from gradgene.commands.benchmark.figures import (
    Figure,
    Findings,
    check_positive,
    in_fresh_process,
)
from gradgene.commands.benchmark.training_arms import (
    ARMS,
    ArmRun,
    TrainingJob,
    require_transformers,
    run_arm,
)
from gradgene.commands.config.binding import bind, build
from gradgene.commands.config.groups import conf_dir, groups
from gradgene.commands.run.memory import peak_mb, resident_mb
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
BOTH = "lightning / transformers"


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
    repeats: int = 5
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
    """One training in a process of its own: resident memory before it and at most, GPU memory."""

    run: ArmRun
    before_mb: float
    peak_mb: float
    gpu_mb: float | None


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
        figures += footprints(settings, job.n_tokens, console)
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
    for arm in ARMS:
        mine = [run for run in runs if run.arm == arm]
        seconds = float(np.median([run.seconds_k.sum() for run in mine]))
        setup = float(np.median([run.setup_seconds for run in mine]))
        figures += [
            Figure(arm, "cells", job.n_cells / seconds, "/s"),
            Figure(arm, "tokens", job.n_tokens / seconds, "/s"),
            Figure(arm, "until step 1 is done", setup, "s"),
        ]
    wall, processor = (_ratios(runs, name) for name in ("seconds_k", "processor_k"))
    spread = f"{wall.min():.2f} to {wall.max():.2f} over {len(wall)} turns"
    losses = np.stack([run.losses_k for run in runs])
    differ = float(np.max(np.abs(losses / losses[0] - 1)))
    steps = f"relative, over {losses.shape[1]} steps"
    return [
        *figures,
        Figure(BOTH, "speed", float(np.median(wall)), "x", at_least=1, note=spread),
        Figure(BOTH, "by processor time", float(np.median(processor)), "x"),
        Figure(BOTH, "losses differ by", differ, at_most=SAME_LOSS, note=steps),
    ]


def _ratios(runs: Sequence[ArmRun], name: str) -> np.ndarray:
    """(turns,) time of transformers over that of Lightning, each turn by itself.

    The two of a turn follow each other closely, so they met the same disturbances.
    """
    took = {arm: [getattr(r, name).sum() for r in runs if r.arm == arm] for arm in ARMS}
    return np.array(took["transformers"]) / np.array(took["lightning"])


def steps_table(runs: Sequence[ArmRun]) -> pd.DataFrame:
    """`arm, run, step, loss, seconds, processor_seconds`; warm-up steps have no seconds."""
    frames = []
    for number, run in enumerate(runs):
        steps = np.arange(1, len(run.losses_k) + 1)
        timed = pd.DataFrame(
            {"seconds": run.seconds_k, "processor_seconds": run.processor_k},
            index=steps[-len(run.seconds_k) :],
        )
        columns = {"arm": run.arm, "run": number, "step": steps, "loss": run.losses_k}
        frames.append(pd.DataFrame(columns, index=steps).join(timed))
    return pd.concat(frames, ignore_index=True)


def footprints(settings: Settings, n_tokens: int, console: Console) -> list[Figure]:
    """Peak memory of each trainer and, if asked for, speed and memory with a switch on.

    `n_tokens` is what the timed steps hold.
    """
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
            # The middle step of each: compiling again for another length is no part of a step.
            ratio = float(np.median(plain.run.seconds_k) / np.median(found.run.seconds_k))
            seconds = float(found.run.seconds_k.sum())
            figures.append(Figure(name, "tokens", n_tokens / seconds, "/s"))
            figures.append(Figure(name, "speed, on / off", ratio, "x", note="one run of each"))
    return figures


def footprint(settings: Settings, arm: str, changes: dict[str, Any]) -> Footprint:
    """Train once; meant for a process of its own."""
    job = make_job(settings, **changes)
    before = resident_mb()
    run = run_arm(job, arm)
    gpu = torch.cuda.max_memory_allocated() / 2**20 if settings.device == "cuda" else None
    return Footprint(run, before, peak_mb(), gpu)


def _said(console: Console, turn: str, job: TrainingJob, arm: str) -> ArmRun:
    with console.status(f"{turn}: {arm}"):
        return run_arm(job, arm)


def _memory(part: str, found: Footprint) -> list[Figure]:
    added = found.peak_mb - found.before_mb
    figures = [
        Figure(part, "peak resident memory", found.peak_mb, "MB"),
        Figure(part, "added by training", added, "MB"),
    ]
    if found.gpu_mb is not None:
        figures.append(Figure(part, "peak GPU memory", found.gpu_mb, "MB"))
    return figures


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
