"""The folder of one run: what was finished there, with which settings, and what came out."""

from __future__ import annotations

import json
import logging
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from gradgene.commands.config.binding import build
from gradgene.commands.line.console import Console
from gradgene.commands.run.company import Company
from gradgene.commands.run.memory import peak_mb
from gradgene.commands.run.remaking import commands
from gradgene.commands.run.spawning import is_spawned, spawns
from gradgene.commands.run.stage_cache import Entry
from gradgene.commands.run.tracking import check_loggers, tracked
from gradgene.errors import ConfigError, OutputError
from gradgene.lit import SafeLogger
from gradgene.store import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
)

__all__ = ["RunFolder", "deciding", "interruptible", "stamp"]


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
        For a sweep of distributed trainings, or a logger that is not installed.
    OutputError
        If the folder cannot be written.
    """

    #: Stages in their order, the first of which trains; keys of each in `metrics.json` begin so,
    #: and doing a stage again replaces all of them.
    METRICS: ClassVar[dict[str, tuple[str, ...]]]
    #: Stages whose work several processes share; others the main process does alone.
    SHARED: ClassVar = ("pretrain", "train", "attribute", "prune")

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        self.cfg, self.folder = cfg, output_dir
        self.is_main = getattr(rank_zero_only, "rank", 0) == 0
        self.console = Console(soft_wrap=True, quiet=not self.is_main)
        self.noted: dict[str, Any] = {}  # what the stage adds to its line of `progress.jsonl`
        self.peculiar = False  # whether this machine made the stage another than the settings say
        self.loggers: list[SafeLogger] = []  # of the stage that is being done; see `tracked`
        several = any(cfg.trainer.get(key, 1) != 1 for key in ("devices", "num_nodes"))
        self.company = Company(
            output_dir, self.is_main, lambda: self.trainer(logger=False), several
        )
        _check_sweep(cfg)
        check_loggers(cfg)
        require_writable(output_dir)
        _quieten_lightning()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """After a failure end the other processes: they would wait for this one in vain."""
        if error is None:
            self.company.part()
        else:
            self.company.fail(error)

    @property
    @abstractmethod
    def checkpoint(self) -> Path:
        """The checkpoint in use, a file or a folder; it need not exist yet."""

    @abstractmethod
    def dataset(self) -> dict[str, Any]:
        """`name` and hash of the data, `n_cells` and `n_genes`; reads the cells if nobody has."""

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
        return build(self.cfg.trainer)(default_root_dir=self.folder, **more)

    @property
    def n_processes(self) -> int:
        """How many processes share the work of the trainer."""
        return int(self.trainer(logger=False).world_size) if self.company.several else 1

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

        Of several processes the main one decides whether it is done, and the others take part
        where the stage is shared.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration.
        """
        shared = name in self.SHARED
        if not shared:
            self.company.part()
        if not self.is_main:
            if shared:
                self.company.help(name, partial(work, self))
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
        self.noted, self.peculiar = {}, False
        with self.cached(name) as found:
            if found is None:
                if shared:
                    self.company.begin(name)
                with tracked(self, name):
                    work(self)
                self.company.wait()
        if found is not None:
            with tracked(self, name, made_by=found.facts["made_by"]):
                pass  # all of it is there already
        line = {
            "stage": name,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_memory_mb": round(peak_mb()),
            "key": self.key(name),
            **({} if found is None else {"from_cache": True, "made_by": found.facts["made_by"]}),
            **self.noted,
        }
        append_json_line(line, self.folder / "progress.jsonl")
        self._unfinished(name).unlink()

    def cached(self, stage: str) -> AbstractContextManager[Entry | None]:
        """Around the work of a stage: gives what others have kept of it, or keeps it for them.

        The work is to be done where it gives None.
        """
        return nullcontext()

    def shared_as(self, stage: str) -> str | None:
        """What this stage is called in the cache by all runs that share it; None where none do."""
        return None

    def in_cache(self, stage: str) -> bool:
        """Whether this stage need not be done, because another run has done it."""
        return False

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
        """Write `config.yaml`, and `provenance.json` with these facts and what makes it again.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration; nothing is written then.
        """
        if not self.is_main:
            return
        self.refuse_other_training()
        with atomic_path(self.folder / "config.yaml") as temporary:
            temporary.write_text(OmegaConf.to_yaml(self.cfg))
        write_json({**facts, **commands(self.folder)}, self.folder / "provenance.json")

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


def deciding(trainer: dict[str, Any]) -> dict[str, Any]:
    """Settings of a trainer without those that change no number: how processes start and wait."""
    strategy = trainer.get("strategy")
    if not isinstance(strategy, dict):
        return trainer
    kept = {k: v for k, v in strategy.items() if k not in ("spawn", "timeout_hours")}
    return {**trainer, "strategy": kept}


def _check_sweep(cfg: DictConfig) -> None:
    """Lightning starts the other processes by the words of the command, which are a sweep's."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if not hydra or hydra.mode != RunMode.MULTIRUN or is_spawned() or spawns(cfg):
        return
    if cfg.trainer.get("devices", 1) != 1:
        raise ConfigError(
            "a sweep cannot start jobs of several processes by its command line",
            where="trainer.devices",
            expected="1, or one command a job",
            found=str(cfg.trainer.devices),
            fix="choose trainer=ddp_spawn_cpu, or add trainer.strategy.spawn=true",
        )


def _quieten_lightning() -> None:
    """Keep hints about loggers, workers and devices out of what a person reads."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*is smaller than the logging interval.*",  # figures of an epoch are logged all the same
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
