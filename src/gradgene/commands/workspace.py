"""One run's folder: which stages are done, what they share, and where results go."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from gradgene.attribution import AttributionSettings
from gradgene.cells import resolve_path
from gradgene.checkpoints import LoadedModel, load_checkpoint, weights_file
from gradgene.commands.binding import bind, build
from gradgene.commands.facts import StudyFacts
from gradgene.commands.groups import conf_dir
from gradgene.errors import CheckpointError, ConfigError, OutputError, closest
from gradgene.lit import CellDataModule
from gradgene.provenance import provenance, settings_hash
from gradgene.seeding import seed_everything
from gradgene.store import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
)

__all__ = ["Workspace"]

#: What decides the result of each stage, besides the stages before it.
SECTIONS = {
    "train": ("study", "data", "model", "checkpoint", "finetune", "objective", "trainer"),
    "attribute": ("attribution", "baseline", "pairs", "ranking"),
    "prune": ("pruning", "ranking", "evaluation"),
}
#: Keys of each stage in `metrics.json` begin so: doing it again replaces all of them.
METRICS = {
    "train": ("test/",),
    "attribute": ("pairs/", "attribution/"),
    "prune": ("pruning/", "recovery/"),
}
#: Facts of a study that change no number of the trained model.
NOT_FOR_TRAINING = ("name", "compare", "match_on")


class Workspace:
    """The folder of one run and everything its stages share.

    Parameters
    ----------
    cfg
        The resolved, bound configuration.
    output_dir
        The folder; created here.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        self.cfg, self.folder = cfg, output_dir
        self.console = Console(soft_wrap=True)
        self.logger: Any = None  # opened by `tracking.tracker` when a stage first logs
        self.facts = StudyFacts(**_plain(cfg.study))
        require_writable(output_dir)
        self._check_match_on()
        self._check_trainer()
        self.settings: AttributionSettings = build(cfg.attribution)
        leaves = {leaf.method.name: leaf for leaf in map(self._compared, self.facts.compare)}
        leaves.pop(self.settings.method.name, None)
        self.compared = list(leaves.values())
        seed_everything(self.facts.seed)
        _quieten_lightning()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close the tracker, also after a failure: the next job of a sweep opens its own."""
        finish = getattr(getattr(self.logger, "experiment", None), "finish", None)
        if finish is not None:
            finish()

    @property
    def attributions(self) -> list[AttributionSettings]:
        """The main attribution and then the compared ones."""
        return [self.settings, *self.compared]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint in use: the one configured, or this run's best."""
        if self.cfg.checkpoint.path is not None:
            return Path(self.cfg.checkpoint.path).expanduser()
        return self.folder / "checkpoints" / "best.ckpt"

    @cached_property
    def data(self) -> CellDataModule:
        """The cells, read and split once."""
        module: CellDataModule = build(self.cfg.data)
        given = self.cfg.checkpoint.path is not None
        if given:
            module.use_tokenizer(self.loaded.tokenizer)
        with self.console.status("reading cells"):
            module.setup()
        if given:
            _refuse_leak(self.loaded, module)
        return module

    @cached_property
    def loaded(self) -> LoadedModel:
        """The trained model, on the device of the trainer."""
        if self.cfg.checkpoint.path is None and not self.is_done("train"):
            raise CheckpointError(
                f"no trained model of this configuration in {self.folder}",
                where="checkpoint.path",
                fix="run `gradgene study` or `gradgene train` with the same settings first, or "
                "name a checkpoint with checkpoint.path=...",
            )
        loaded = load_checkpoint(self.checkpoint, self.cfg.checkpoint.kind)
        loaded.model.to(self.device)
        return loaded

    @property
    def device(self) -> str:
        """Where models run outside Lightning."""
        wants_gpu = self.cfg.trainer.accelerator in ("gpu", "cuda", "auto")
        return "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"

    def trainer(self, **more: Any) -> Any:
        """A Lightning trainer of the configured kind writing to this folder."""
        return build(self.cfg.trainer)(default_root_dir=self.folder, **more)

    def key(self, stage: str) -> str:
        """Hash of all settings that decide the result of `stage`; see `SECTIONS`."""
        plain = _plain(self.cfg)
        study = {k: v for k, v in plain["study"].items() if k not in NOT_FOR_TRAINING}
        parts: list[Any] = [{**{s: plain.get(s) for s in SECTIONS["train"]}, "study": study}]
        parts.append(_stamp(str(resolve_path(self.cfg.data.path))))
        parts += self._stamps("data.genes", "checkpoint.path")
        if stage in ("attribute", "prune"):
            parts += [plain.get(s) for s in SECTIONS["attribute"]]
            parts += [plain["study"]["match_on"], [str(a) for a in self.compared]]
            parts += self._stamps("pairs.file")
        if stage == "prune":
            parts += [plain.get(s) for s in SECTIONS["prune"]]
            parts += self._stamps("ranking.file", "evaluation.known_genes")
        return settings_hash(parts)

    def _stamps(self, *keys: str) -> list[Any]:
        """Stamps of the files that these configuration keys name."""
        paths = [OmegaConf.select(self.cfg, key) for key in keys]
        return [_stamp(path) if isinstance(path, str) else None for path in paths]

    def is_done(self, stage: str) -> bool:
        """Whether this stage was finished here with the present settings."""
        order = [*SECTIONS]
        upstream = order[: order.index(stage) + 1]
        # A stage before this one that was done again since has replaced what this one stands on.
        lines = [line for line in self.progress() if line["stage"] in upstream]
        done = bool(lines) and (lines[-1]["stage"], lines[-1]["key"]) == (stage, self.key(stage))
        return done and not any(self._unfinished(name).exists() for name in upstream)

    def progress(self) -> list[dict[str, Any]]:
        """Lines of `progress.jsonl`."""
        return read_json_lines(self.folder / "progress.jsonl")

    def stage(self, name: str, work: Callable[[Workspace], None]) -> None:
        """Do `work` unless it is done, and note how long it took and how much memory.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration.
        """
        if self.is_done(name):
            self.console.print(f"[dim]{name}: done before, skipped[/]")
            return
        if name == "train":
            self._claim()
        self.console.rule(f"[bold]{name}")
        started = time.perf_counter()
        # Breaking off with other settings than before leaves files of both: then neither is done.
        self._unfinished(name).touch()
        self._drop_metrics(METRICS[name])
        work(self)
        line = {
            "stage": name,
            "seconds": round(time.perf_counter() - started, 2),
            "peak_memory_mb": round(_peak_memory_mb()),
            "key": self.key(name),
        }
        append_json_line(line, self.folder / "progress.jsonl")
        self._unfinished(name).unlink()

    def plan(self, *stages: str) -> None:
        """Say which of these stages would run, and where; nothing is written."""
        for name in stages:
            self.console.print(f"{name}: {'done' if self.is_done(name) else 'to do'}")
        self.console.print(f"results in {self.folder}")

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

    def write_provenance(self) -> None:
        """Write `config.yaml` and `provenance.json`.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration; nothing is written then.
        """
        self.refuse_other_training()
        weights = weights_file(self.checkpoint) if self.checkpoint.exists() else None
        data = resolve_path(self.cfg.data.path)
        facts = provenance(data, weights, self.key("prune"), self.device)
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
        if json.loads(marker.read_text())["key"] != self.key("train"):
            raise OutputError(
                "holds a model trained with other settings",
                where=str(self.folder),
                fix="choose another folder with paths.output_dir=..., or delete this one",
            )

    def _claim(self) -> None:
        """Note whose checkpoints the folder will hold."""
        self.refuse_other_training()
        write_json({"key": self.key("train")}, self.folder / "checkpoints" / "training.json")

    def _unfinished(self, stage: str) -> Path:
        """Exists from a stage's first moment until its line in `progress.jsonl` is written."""
        return self.folder / f".{stage}.unfinished"

    def _check_match_on(self) -> None:
        """Only columns that are read can be matched on."""
        facts = self.facts
        read = dict.fromkeys([*self.cfg.data.phenotypes, *facts.filters])
        read.update({facts.donor: None} if facts.donor else {})
        for column in facts.match_on:
            if column not in read:
                raise ConfigError(
                    f"cannot match on {column!r}, which is not read",
                    where="study.match_on",
                    expected=f"one of {closest(column, read)}",
                    fix=f"add {column!r} to data.phenotypes",
                )

    def _check_trainer(self) -> None:
        """Refuse what would give wrong numbers rather than an error."""
        trainer = self.cfg.trainer
        if trainer.get("devices", 1) != 1:
            raise ConfigError(
                "several processes are not supported yet",
                where="trainer.devices",
                expected="1",
                found=str(trainer.devices),
            )
        if str(trainer.get("precision", "32-true")) in ("bf16-true", "16-true"):
            raise ConfigError(
                "half-precision weights are too coarse for finite differences",
                where="trainer.precision",
                expected="32-true, or bf16-mixed for training only",
                found=str(trainer.precision),
            )

    def _compared(self, name: str) -> AttributionSettings:
        file = conf_dir() / "attribution" / f"{name}.yaml"
        if not file.is_file():
            leaves = [f.stem for f in file.parent.glob("*.yaml")]
            raise ConfigError(
                f"no attribution {name!r}",
                where="study.compare",
                expected=f"one of {closest(name, leaves)}",
            )
        node = OmegaConf.create({"attribution": OmegaConf.load(file)})
        bind(node)
        # Only the method differs: side by side they must explain the same scalar.
        return replace(self.settings, method=build(node.attribution).method)


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)


def _stamp(path: str) -> list[Any]:
    """Size and time of a file, or of all files of a folder: enough to notice a replacement."""
    file = Path(path).expanduser()
    inside = sorted(f for f in file.rglob("*") if f.is_file()) if file.is_dir() else [file]
    stats = [f.stat() for f in inside if f.is_file()]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _refuse_leak(loaded: LoadedModel, data: CellDataModule) -> None:
    """Raise `CheckpointError` if the model was trained on what it would be judged on."""
    shared = sorted(set(loaded.trained_on) & set(data.units("test")))
    if shared:
        what = "donors" if data.schema.donor else "cells"
        raise CheckpointError(
            f"the model was trained on {len(shared)} of the {what} it would be judged on: "
            f"{', '.join(shared[:5])}",
            where="checkpoint.path",
            fix="hold out what it was not trained on: the study.seed and data.holdout_donors of "
            "its training, or cells that are new to it",
        )


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _quieten_lightning() -> None:
    """Keep hints about loggers, workers and devices out of what a person reads."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*treespec, LeafSpec.*",
        "Checkpoint directory .* exists and is not empty",  # of this training: see _claim
    ):
        warnings.filterwarnings("ignore", message=message)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C by leaving the process; here it becomes an interrupt again."""
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
