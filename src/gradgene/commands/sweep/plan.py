"""What a sweep is going to do, checked before its first job: its jobs, folder and objective."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from gradgene.commands.config.binding import bind
from gradgene.commands.config.facts import SweepFacts
from gradgene.commands.config.hydra_errors import Line, only_missing
from gradgene.errors import ConfigError

__all__ = ["Plan", "plan_sweep", "refuse_without_sweep"]

_MOST_COMPOSITIONS = 64
_BASIC = "BasicSweeper"
# How figures of held-out cells begin: pruning is judged on them, too.
_HELD_OUT = ("test/", "pruning/")
# What gives a study its name, and so its folder.
_NAMING = ("experiment", "study.name")
_FOLDER_OF_STUDIES = "add hydra.sweep.dir=runs/NAME 'hydra.sweep.subdir=${study.name}'"


@dataclass(frozen=True)
class Plan:
    """A sweep before its first job.

    Attributes
    ----------
    folder
        Folder of the sweep, absolute: the same for a job wherever it runs.
    jobs
        Overrides of each job, or None where a search chooses them as it goes.
    names
        The override by which folders of jobs are named after what differs.
    facts
        The figure that jobs are compared by, and which way.
    insists
        Whether a job without the figure has failed: one that the line names or a search goes by.
        That of a leaf is for those commands that make it.
    caution
        What the user should know of the objective, or "".
    """

    folder: Path
    jobs: tuple[tuple[str, ...], ...] | None
    names: str
    facts: SweepFacts
    insists: bool
    caution: str = ""

    @property
    def pinned(self) -> tuple[str, str]:
        """Overrides that give every job the folder of the sweep and a name of its own in it."""
        return f"hydra.sweep.dir={_quoted(str(self.folder))}", self.names


def plan_sweep(line: Line) -> Plan:
    """Compose and bind every job of a sweep, so that a wrong value in the last is known at once.

    Sweeps of more than 64 jobs are checked as far as that; of a search, what it does not vary.

    Raises
    ------
    ConfigError
        For a job that could not run, jobs that would share a folder, a search without an objective
        or with one of held-out cells, a launcher that is not here.
    """
    parser = OverridesParser.create()
    given = parser.parse_overrides([*line.overrides])
    _refuse_sweep_of_sweeps(given)
    master = line.compose([str(o.input_line) for o in given if not o.is_sweep_override()])
    params = master.hydra.sweeper.get("params") or {}
    leaf = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    # As Hydra's sweepers have it: what the line says of a key counts, not what the leaf says.
    varied = {o.get_key_element(): o for o in [*leaf, *given]}
    searching = not str(master.hydra.sweeper._target_).endswith(_BASIC)
    if not searching:
        _refuse_ranges(varied)
    jobs, names = _jobs(varied), _names(master, varied)
    _check_jobs(line, jobs, names)
    _check_launcher(master)
    facts = SweepFacts(master.sweep.objective, master.sweep.direction)
    insists = searching or any(override.key_or_group == "sweep.objective" for override in given)
    caution = _check_search(facts.objective) if searching else ""
    own = tuple(tuple(word for word in job if not word.startswith("hydra")) for job in jobs)
    folder = _folder(master, varied)
    return Plan(folder, None if searching else own, names, facts, insists, caution)


def refuse_without_sweep(overrides: Sequence[str]) -> None:
    """Raise `ConfigError` for a leaf of `sweep` on a line that asks for one job."""
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "hydra.mode":
            raise ConfigError("is set by -m", where=override, fix="add -m for a sweep")
        if key == "sweep" and value != "null":
            raise ConfigError(
                "is for many jobs, and one was asked for", where=override, fix="add -m"
            )


def _refuse_sweep_of_sweeps(given: Sequence[Override]) -> None:
    for override in given:
        if override.key_or_group == "sweep" and override.is_sweep_override():
            value = override.input_line.partition("=")[2] if override.input_line else ""
            raise ConfigError(
                "is itself what is varied",
                where="sweep",
                found=value,
                fix=f"write 'sweep=[{value}]' for every combination of both, or one line a sweep",
            )


def _refuse_ranges(varied: Mapping[str, Override]) -> None:
    for key, override in varied.items():
        if override.is_interval_sweep():
            raise ConfigError(
                "no search is there to choose values from an interval",
                where=key,
                fix="add hydra/sweeper=optuna and sweep.objective=..., or list the values",
            )


def _jobs(varied: Mapping[str, Override]) -> list[tuple[str, ...]]:
    """The words of every job, in Hydra's order; without what a search varies in an interval."""
    choices = [
        [f"{key}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [f"{key}={override.get_value_element_as_str()}"]
        for key, override in varied.items()
        if not override.is_interval_sweep()
    ]
    return [*itertools.product(*choices)]


def _names(master: DictConfig, varied: Mapping[str, Override]) -> str:
    """Leave out of the names of the jobs' folders what is the same for all of them."""
    left_out = list(master.hydra.job.config.override_dirname.exclude_keys)
    if any(override.is_sweep_override() for override in varied.values()):
        same = [o.key_or_group for o in varied.values() if not o.is_sweep_override()]
        left_out += [key for key in same if not key.startswith("hydra")]
    keys = ",".join(_quoted(key) for key in dict.fromkeys(left_out))
    return f"hydra.job.config.override_dirname.exclude_keys=[{keys}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _check_jobs(line: Line, jobs: Sequence[tuple[str, ...]], names: str) -> None:
    seen: dict[str, tuple[str, ...]] = {}
    for number, job in enumerate(jobs[:_MOST_COMPOSITIONS]):
        # Interpolations of Hydra's own values can only be resolved inside a job.
        with contextlib.suppress(InterpolationResolutionError):
            cfg = line.compose([*job, names])
            missing = only_missing(cfg)
            if missing:
                raise missing
            folder = _job_folder(cfg, number)
            _refuse_same_folder(job, seen.get(folder))
            seen[folder] = job
            OmegaConf.set_struct(cfg, False)
            del cfg["hydra"]
            bind(cfg)


def _job_folder(cfg: DictConfig, number: int) -> str:
    """Where the job would write, relative to the folder of the sweep."""
    with read_write(cfg.hydra), open_dict(cfg.hydra):
        cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
    return str(cfg.hydra.sweep.subdir)


def _refuse_same_folder(job: tuple[str, ...], other: tuple[str, ...] | None) -> None:
    if other is None:
        return
    if job == other:
        raise ConfigError(
            "a value is there twice, which would be the same job twice",
            where=", ".join(word for word in job if not word.startswith("hydra")),
            fix="name every value once",
        )
    keys = [a.partition("=")[0] for a, b in zip(job, other, strict=True) if a != b]
    fix = "add 'hydra.sweep.subdir=${hydra.job.num}'"
    if any(key in _NAMING for key in keys):
        fix = _FOLDER_OF_STUDIES
    raise ConfigError(
        "a sweep over this would put all jobs in one folder", where=", ".join(keys), fix=fix
    )


def _check_launcher(master: DictConfig) -> None:
    launcher = master.hydra.launcher
    for key in ("nodes", "tasks_per_node"):
        if launcher.get(key, 1) != 1:
            raise ConfigError(
                "a job of a sweep is one process",
                where=f"hydra.launcher.{key}",
                expected="1, or for jobs of several processes one `srun gradgene ...` a job",
                found=str(launcher[key]),
            )
    if str(launcher._target_).endswith("SlurmLauncher") and shutil.which("srun") is None:
        raise ConfigError(
            "there is no SLURM on this machine",
            where="hydra/launcher",
            expected="the program srun on the PATH",
            fix="start it on a login node of the cluster, or take hydra/launcher=joblib",
        )


def _check_search(objective: str | None) -> str:
    """A search chooses by its objective, so held-out cells must have no say in it."""
    fix = "add sweep.objective=val/balanced_accuracy"
    if objective is None:
        raise ConfigError("a search needs a figure to go by", where="sweep.objective", fix=fix)
    if objective.startswith(_HELD_OUT):
        raise ConfigError(
            "a search that sees the held-out cells leaves none to judge its choice",
            where="sweep.objective",
            expected="a figure of validation cells, val/...",
            found=objective,
            fix=fix,
        )
    if not objective.startswith("val/"):
        return f"caution: {objective} is not of validation cells, so the best value flatters"
    return ""


def _folder(master: DictConfig, varied: Mapping[str, Override]) -> Path:
    try:
        return Path(str(master.hydra.sweep.dir)).absolute()
    except OmegaConfBaseException as error:
        if not any(key in _NAMING and o.is_sweep_override() for key, o in varied.items()):
            raise
        raise ConfigError(
            "the jobs have no folder in common", where="hydra.sweep.dir", fix=_FOLDER_OF_STUDIES
        ) from error
