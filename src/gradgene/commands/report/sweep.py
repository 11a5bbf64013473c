"""Which runs are meant: folders of runs, or the folder of a sweep that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gradgene.errors import OutputError, closest

__all__ = ["Sweep", "find_sweep"]

#: What Hydra, and what we, leave in the folder of a sweep.
MARKS = ("multirun.yaml", "jobs.csv")
#: Folders in that of a run.
OF_A_RUN = ("attributions", "checkpoints", "evaluation", "figures", "pruning", "wandb")
NEEDED = ("job", "overrides", "folder", "status")


@dataclass(frozen=True)
class Sweep:
    """Folders of runs, the folder of the sweep they are of and its `jobs.csv`, if there is one."""

    runs: tuple[Path, ...]
    folder: Path | None = None
    jobs: pd.DataFrame | None = None


def find_sweep(words: Sequence[str]) -> Sweep | None:
    """The runs that `words` name, or None where they name a single run.

    The folder of a sweep stands for the runs of its jobs, also where it is that of a run too, which
    it stays if no job left one. Of several folders, those of jobs that failed are left out:
    `jobs.csv` has what is known of them. Raises `OutputError` where that file is damaged, or none
    of the jobs has left a run.
    """
    folders = [Path(word) for word in words]
    if len(folders) == 1:
        (folder,) = folders
        if not _is_sweep(folder):
            return None
        jobs = _jobs(folder)
        runs = _runs_below(folder)
        if jobs is not None:  # others may be there of another sweep of the study
            listed = {_place(folder, str(name)) for name in jobs["folder"]}
            runs = [run for run in runs if run.resolve() in listed]
        if not runs and (folder / "config.yaml").is_file():
            return None
        return _finished(folder, runs, jobs)
    # A sweep's folder also holds what is its own, and that of a run what is the run's: a glob
    # names both.
    others = (*OF_A_RUN, ".jobs")
    folders = [f for f in folders if not f.is_file() and f.name not in others]
    parents = {folder.resolve().parent for folder in folders}
    parent = parents.pop() if parents else Path()
    if parents or not _is_sweep(parent):
        return Sweep(tuple(folders))
    return _finished(parent, folders, _jobs(parent))


def _is_sweep(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _runs_below(folder: Path) -> list[Path]:
    """Folders of runs, which Hydra may have put several levels down, and not what is in them."""
    its_own = {folder, *(folder / name for name in OF_A_RUN)}
    found = sorted(f.parent for f in folder.rglob("config.yaml") if f.parent not in its_own)
    return [run for run in found if not any(other in run.parents for other in found)]


def _jobs(folder: Path) -> pd.DataFrame | None:
    file = folder / "jobs.csv"
    if not file.is_file():
        return None
    try:
        jobs = pd.read_csv(file)
    except ValueError as error:  # pandas' own errors are ValueErrors
        raise OutputError("cannot be read", where=str(file), found=str(error)) from error
    for column in NEEDED:
        if column not in jobs:
            raise OutputError(
                f"has no column {column!r}",
                where=str(file),
                found=closest(column, list(map(str, jobs.columns))),
                fix="run the sweep again; jobs that are done are not done twice",
            )
    return jobs


def _finished(folder: Path, runs: Sequence[Path], jobs: pd.DataFrame | None) -> Sweep:
    """The sweep without the folders of failed jobs, in the order of its jobs."""
    places: dict[Path, int] = {}
    failed: set[Path] = set()
    if jobs is not None:
        for place, (name, status) in enumerate(zip(jobs["folder"], jobs["status"], strict=True)):
            found = _place(folder, str(name))
            places[found] = place
            if status == "failed":
                failed.add(found)
    kept = [run for run in runs if run.resolve() not in failed]
    if not kept:
        raise OutputError(
            "none of its jobs has left a run",
            where=str(folder),
            fix="see the errors in jobs.csv" if jobs is not None else "run the sweep first",
        )
    kept.sort(key=lambda run: places.get(run.resolve(), len(places)))
    return Sweep(tuple(kept), folder, jobs)


def _place(folder: Path, name: str) -> Path:
    """Where a job's folder is now: below the sweep's, which may have been moved since."""
    choices = (folder / name, Path(name), folder / Path(name).name)
    return next((c for c in choices if c.is_dir()), choices[0]).resolve()
