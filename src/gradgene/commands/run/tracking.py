"""The experiment trackers of a run: opened as a stage begins, closed as it ends.

A stage that is not skipped is a run of its own to every configured logger (`logger=wandb`, `csv`,
`tensorboard`, `none`, or several: `logger=[wandb,csv]`). All of them take its settings and figures;
Weights & Biases also takes tables, plots, artifacts with their lineage, and of a failed stage the
exit code 1. A stage that the cache had is a short run with all of its results, tagged `cached`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import uuid4

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gradgene.checkpoints import PretrainedModel, weights_file
from gradgene.commands.config.binding import build
from gradgene.commands.run.memory import peak_mb
from gradgene.errors import ConfigError, closest
from gradgene.lit import SafeLogger
from gradgene.provenance import git_commit, redacted
from gradgene.reports import RunFiles, wandb
from gradgene.reports.tracked import curve_steps, stage_figures
from gradgene.reports.wandb_artifacts import Piece, log_lineage
from gradgene.reports.wandb_content import guarded, log_content
from gradgene.store import append_json_line, read_json_lines

__all__ = ["TrackedRun", "check_loggers", "tracked"]

#: W&B takes no longer names.
LONGEST_NAME = 128
#: What Lightning's logger takes for itself; `wandb.init` takes the rest of a leaf.
OF_LIGHTNING = frozenset({"prefix", "checkpoint_name", "log_model", "add_file_policy"})
#: What a run of ours says itself.
OURS = frozenset({"dir", "id", "config"})
#: Stage -> kinds of artifacts it reads, and the kind it makes.
LINEAGE: dict[str, tuple[tuple[str, ...], str | None]] = {
    "pretrain": (("dataset",), "checkpoint"),
    "train": (("dataset",), "checkpoint"),
    "attribute": (("dataset", "checkpoint"), "attributions"),
    "prune": (("checkpoint", "attributions"), "curves"),
    "evaluate": (("checkpoint", "attributions", "curves"), "evaluation"),
    "report": (("attributions", "curves", "evaluation"), None),
}


class TrackedRun(Protocol):
    """What a tracker needs of the folder of a run."""

    METRICS: ClassVar[dict[str, tuple[str, ...]]]
    cfg: DictConfig
    folder: Path
    loggers: list[SafeLogger]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint in use, a file or a folder."""

    def dataset(self) -> dict[str, Any]:
        """`name` and hash of the data, `n_cells` and `n_genes`."""


def check_loggers(cfg: DictConfig) -> None:
    """Refuse now what a stage would refuse as it begins.

    Raises
    ------
    ConfigError
        For a logger whose package is not installed, or a key that W&B does not know.
    """
    for name, node in (cfg.get("logger") or {}).items():
        target = str(node.get("_target_", "")) if isinstance(node, DictConfig) else ""
        if target.endswith("TensorBoardLogger") and not _has_tensorboard():
            raise ConfigError(
                "TensorBoard is not installed",
                where=f"logger.{name}",
                fix='pip install "gradgene[tensorboard]", or choose another logger=...',
            )
        if not target:
            raise ConfigError(
                "is no logger",
                where=f"logger.{name}",
                expected="a leaf of its own with _target_, as in conf/logger/wandb.yaml",
                fix=f"for a setting of Weights & Biases write logger.wandb.{name}=...",
            )
        if target.endswith("WandbLogger"):
            known = {*wandb.INIT_KEYS, *OF_LIGHTNING, "_target_", "_partial_"}
            for key in map(str, node):
                if key not in known or key in OURS:
                    raise ConfigError(
                        "is not to be set"
                        if key in OURS
                        else "Weights & Biases has no such setting",
                        where=f"logger.{name}.{key}",
                        expected=f"one of {closest(key, sorted(known - OURS))}",
                    )


def _has_tensorboard() -> bool:
    return any(find_spec(name) is not None for name in ("tensorboard", "tensorboardX"))


@contextmanager
def tracked(
    work: TrackedRun,
    stage: str,
    figures: Mapping[str, Path] | None = None,
    made_by: str | None = None,
) -> Iterator[None]:
    """Track what is done inside as one run of `stage`; `work.loggers` are open meanwhile.

    Only the main process enters this. At the end every logger takes the stage's figures and
    curves. `figures` (name -> PNG) may be filled meanwhile; W&B shows them as images. `made_by`
    is the run whose stage it was, of one that the cache had: its time and memory are not told.
    """
    if not work.cfg.get("logger"):
        yield
        return
    error: BaseException | None = None
    started = time.perf_counter()
    with wandb.staged_in(work.folder):
        work.loggers = opened = _opened(work, stage, made_by)
        try:
            yield
            # Not for the trainer any more, and nothing that happens now is the stage's failure.
            work.loggers = []
            spent: dict[str, float] = {}
            if made_by is None:
                spent[f"stage/{stage}/seconds"] = time.perf_counter() - started
                spent[f"stage/{stage}/peak_memory_mb"] = peak_mb()
            guarded("results", partial(_log_results, work, stage, opened, spent, figures or {}))
        except BaseException as raised:
            error = raised
            raise
        finally:
            work.loggers = []
            for logger in opened:
                logger.finalize("success" if error is None else "failed")
                if _is_wandb(logger):
                    wandb.finish(logger.experiment, error)


def _opened(work: TrackedRun, stage: str, made_by: str | None) -> list[SafeLogger]:
    """The configured loggers, which know the settings of the stage."""
    loggers = []
    config = _settings(work, stage)
    if made_by is not None:
        config["from_cache"] = redacted(made_by)
    for name, node in work.cfg.logger.items():
        filled = OmegaConf.create(_filled(OmegaConf.to_container(node, resolve=True), stage))
        make = build(OmegaConf.create({"logger": {name: filled}}).logger[name])
        if str(node["_target_"]).endswith("WandbLogger"):
            inner = _open_wandb(make, work, stage, () if made_by is None else ("cached",))
        else:
            inner = make(save_dir=work.folder)
        if inner is None:
            continue
        logger = SafeLogger(inner, str(name))
        logger.log_hyperparams(config)
        loggers.append(logger)
    return loggers


def _open_wandb(make: Any, work: TrackedRun, stage: str, tags: tuple[str, ...]) -> Any:
    """A W&B run with an id of its own for this folder, stage and attempt, noted in runs.jsonl."""
    notes = work.folder / "wandb" / "runs.jsonl"
    attempt = 1 + sum(line["stage"] == stage for line in read_json_lines(notes))
    init = {key: value for key, value in make.keywords.items() if key not in OF_LIGHTNING}
    given = init.get("tags") or ()
    init["tags"] = [*([given] if isinstance(given, str) else given), *tags]
    # Random: the same path on another machine is another run.
    run = wandb.open_run(work.folder, **{**redacted(init), "id": uuid4().hex[:12]})
    if run is None:
        return None
    mode = "offline" if run.offline else "online"
    line = {"stage": stage, "attempt": attempt, "id": run.id, "name": run.name, "mode": mode}
    append_json_line(line, notes)
    guarded("steps", partial(_define, run, attempt))
    return make.func(
        experiment=run,
        save_dir=work.folder,
        **{key: value for key, value in make.keywords.items() if key in OF_LIGHTNING},
    )


def _define(run: Any, attempt: int) -> None:
    run.config.update({"attempt": attempt})
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    # Curves are drawn over the share of genes that was removed, not over the step.
    for curves in ("pruning/curves/*", "pruning/retrained/*"):
        run.define_metric(curves, step_metric="pruning/removed")


def _filled(node: Any, stage: str) -> Any:
    """A leaf with `{stage}` and `{job}` filled in, wherever they stand."""
    if isinstance(node, dict):
        return {key: _filled(value, stage) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, stage) for value in node]
    if not isinstance(node, str):
        return node
    text = node.replace("{stage}", stage).replace("{job}", _job())
    return text[:LONGEST_NAME] if text != node else node


def _job() -> str:
    """What distinguishes this job of a sweep, with a dash before it; nothing outside of sweeps."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return ""
    # What stands on the command line as it is, is the same in every job.
    varied = [override for override in hydra.overrides.task if override not in sys.argv]
    return f"-{','.join(varied)}" if varied else ""


def _settings(work: TrackedRun, stage: str) -> dict[str, Any]:
    """The resolved configuration and where the run comes from, without credentials."""
    file = work.folder / "provenance.json"
    provenance = json.loads(file.read_text()) if file.is_file() else {}
    config = OmegaConf.to_container(work.cfg, resolve=True)
    assert isinstance(config, dict)  # a configuration is a mapping
    commit = git_commit(Path.cwd())
    return redacted({**config, "stage": stage, "provenance": {**provenance, "git": commit}})


def _log_results(
    work: TrackedRun,
    stage: str,
    loggers: Sequence[SafeLogger],
    spent: Mapping[str, float],
    figures: Mapping[str, Path],
) -> None:
    """Hand the stage's figures and curves to every logger, and its tables and files to W&B."""
    files = RunFiles.read(work.folder)
    numbers = {**stage_figures(files, stage, tuple(work.METRICS.get(stage, ()))), **spent}
    for logger in loggers:
        logger.log_metrics(numbers)
        for step, at in curve_steps(files, stage):
            logger.log_metrics(at, step)
        if _is_wandb(logger):
            log_content(logger.experiment, files, [stage], figures)
            guarded("lineage", partial(_log_pieces, work, stage, logger.experiment))


def _log_pieces(work: TrackedRun, stage: str, run: Any) -> None:
    reads, makes = LINEAGE[stage]
    inputs = [_piece(work, kind) for kind in reads]
    if stage in ("train", "pretrain"):
        if OmegaConf.select(work.cfg, "checkpoint.path") is not None:  # only judged
            inputs, makes = [*inputs, _piece(work, "checkpoint")], None
        start = build(work.cfg.model)
        if isinstance(start, PretrainedModel):
            inputs.append(Piece.checkpoint(start.file()))
    outputs = [_piece(work, makes)] if makes else []
    log_lineage(run, inputs, outputs, {"study": str(work.cfg.study.name), "stage": stage})


def _piece(work: TrackedRun, kind: str) -> Piece:
    if kind == "dataset":
        return Piece.dataset(work.dataset())
    if kind == "checkpoint":
        return Piece.checkpoint(weights_file(work.checkpoint))
    return Piece.of(kind, work.folder)


def _is_wandb(logger: SafeLogger) -> bool:
    return type(logger.inner).__name__ == "WandbLogger"
