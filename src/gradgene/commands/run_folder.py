"""The folder of one run: what was finished there, with which settings, and what came out."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from gradgene.commands.binding import build
from gradgene.commands.memory import peak_mb
from gradgene.errors import ConfigError, OutputError
from gradgene.lit import end_started, leave_processes
from gradgene.store import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
)

__all__ = ["RunFolder", "interruptible", "stamp"]


class RunFolder(ABC):
    """The folder of one run and the bookkeeping of its stages.

    Of the processes of a distributed training only the main one writes, logs and prints.

    Parameters
    ----------
    cfg
        The resolved, bound configuration.
    output_dir
        The folder; created here.

    Raises
    ------
    ConfigError
        For a sweep of distributed trainings.
    OutputError
        If the folder cannot be written.
    """

    #: Stages in their order, the first of which trains; keys of each in `metrics.json` begin so,
    #: and doing a stage again replaces all of them.
    METRICS: ClassVar[dict[str, tuple[str, ...]]]

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        self.cfg, self.folder = cfg, output_dir
        self.is_main = getattr(rank_zero_only, "rank", 0) == 0
        self.console = Console(soft_wrap=True, quiet=not self.is_main)
        self.logger: Any = None  # opened by `tracking.tracker` when a stage first logs
        self._launchers: list[Any] = []
        _check_sweep(cfg)
        require_writable(output_dir)
        _quieten_lightning()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the tracker, also after a failure: the next job of a sweep opens its own.

        After a failure of the main process the others are ended: they would wait for it in vain.
        """
        if self.is_main and error[0] is not None:
            end_started(self._launchers)
        else:
            leave_processes()
        finish = getattr(getattr(self.logger, "experiment", None), "finish", None)
        if finish is not None:
            finish()

    @abstractmethod
    def key(self, stage: str) -> str:
        """Hash of all settings that decide the result of `stage`."""

    @property
    def device(self) -> str:
        """Where models run outside Lightning."""
        wants_gpu = self.cfg.trainer.accelerator in ("gpu", "cuda", "auto")
        return "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"

    def trainer(self, **more: Any) -> Any:
        """A Lightning trainer of the configured kind writing to this folder."""
        trainer = build(self.cfg.trainer)(default_root_dir=self.folder, **more)
        self._launchers.append(trainer.strategy.launcher)
        return trainer

    @property
    def n_processes(self) -> int:
        """How many processes share the work of the trainer."""
        if self.cfg.trainer.get("devices", 1) == 1:
            return 1
        return int(build(self.cfg.trainer)(default_root_dir=self.folder, logger=False).world_size)

    def is_done(self, stage: str) -> bool:
        """Whether this stage was finished here with the present settings."""
        order = [*self.METRICS]
        upstream = order[: order.index(stage) + 1]
        # A stage before this one that was done again since has replaced what this one stands on.
        lines = [line for line in self.progress() if line["stage"] in upstream]
        done = bool(lines) and (lines[-1]["stage"], lines[-1]["key"]) == (stage, self.key(stage))
        return done and not any(self._unfinished(name).exists() for name in upstream)

    def progress(self) -> list[dict[str, Any]]:
        """Lines of `progress.jsonl`."""
        return read_json_lines(self.folder / "progress.jsonl")

    def stage(self, name: str, work: Callable[[Any], None]) -> None:
        """Do `work` unless it is done, and note how long it took and how much memory.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration.
        """
        if not self.is_main:
            work(self)
            return
        if self.is_done(name):
            self.console.print(f"[dim]{name}: done before, skipped[/]")
            return
        if name == next(iter(self.METRICS)):
            self._claim()
        self.console.rule(f"[bold]{name}")
        started = time.perf_counter()
        # Breaking off with other settings than before leaves files of both: then neither is done.
        self._unfinished(name).touch()
        # What stood on the results before is gone with them.
        order = [*self.METRICS]
        for later in order[order.index(name) :]:
            self._drop_metrics(self.METRICS[later])
        work(self)
        line = {
            "stage": name,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_memory_mb": round(peak_mb()),
            "key": self.key(name),
        }
        append_json_line(line, self.folder / "progress.jsonl")
        self._unfinished(name).unlink()

    def _drop_metrics(self, prefixes: tuple[str, ...]) -> None:
        file = self.folder / "metrics.json"
        if file.is_file():
            before = json.loads(file.read_text())
            write_json({k: v for k, v in before.items() if not k.startswith(prefixes)}, file)

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Merge figures into `metrics.json`."""
        file = self.folder / "metrics.json"
        before = json.loads(file.read_text()) if file.is_file() else {}
        write_json({**before, **metrics}, file)

    def write_config(self, facts: dict[str, Any]) -> None:
        """Write `config.yaml`, and `provenance.json` with these facts and the command.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration; nothing is written then.
        """
        self.refuse_other_training()
        if not self.is_main:
            return
        with atomic_path(self.folder / "config.yaml") as temporary:
            temporary.write_text(OmegaConf.to_yaml(self.cfg))
        write_json(
            {**facts, "command": ["gradgene", *sys.argv[1:]]}, self.folder / "provenance.json"
        )

    def refuse_other_training(self) -> None:
        """Refuse to mix a new training with the checkpoints of another one.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration.
        """
        marker = self.folder / "checkpoints" / "training.json"
        # A training that failed before its first checkpoint left nothing worth keeping apart.
        if not marker.is_file() or not any(marker.parent.glob("*.ckpt")):
            return
        if json.loads(marker.read_text())["key"] != self.key(next(iter(self.METRICS))):
            raise OutputError(
                "holds a model trained with other settings",
                where=str(self.folder),
                fix="choose another folder with paths.output_dir=..., or delete this one",
            )

    def _claim(self) -> None:
        """Note whose checkpoints the folder will hold."""
        self.refuse_other_training()
        marker = self.folder / "checkpoints" / "training.json"
        write_json({"key": self.key(next(iter(self.METRICS)))}, marker)

    def _unfinished(self, stage: str) -> Path:
        """Exists from a stage's first moment until its line in `progress.jsonl` is written."""
        return self.folder / f".{stage}.unfinished"


def stamp(path: str) -> list[Any]:
    """Size and time of a file, or of all files of a folder: enough to notice a replacement."""
    file = Path(path).expanduser()
    inside = sorted(f for f in file.rglob("*") if f.is_file()) if file.is_dir() else [file]
    stats = [f.stat() for f in inside if f.is_file()]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _check_sweep(cfg: DictConfig) -> None:
    """Lightning starts the other processes by the words of the command, which are a sweep's."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if cfg.trainer.get("devices", 1) != 1 and hydra and hydra.mode == RunMode.MULTIRUN:
        raise ConfigError(
            "a sweep cannot start jobs of several processes",
            where="trainer.devices",
            expected="1, or one command a job",
            found=str(cfg.trainer.devices),
        )


def _quieten_lightning() -> None:
    """Keep hints about loggers, workers and devices out of what a person reads."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*treespec, LeafSpec.*",
        "Checkpoint directory .* exists and is not empty",  # of this training: see _claim
        "Total length of .* across ranks is zero.*",  # what was done before is not done again
    ):
        warnings.filterwarnings("ignore", message=message)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C by leaving the process; here it becomes an interrupt again."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
