"""What became of the jobs of a sweep: each notes its own end, the sweep reads and tells them all.

A launcher may run a job in this process, in another or on another machine, and a job may be killed
before it can say anything. So nothing is kept in memory: every job has a file in the folder of the
sweep, written when it begins and again when it ends.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradgene.store import atomic_path, write_json

__all__ = ["ENDED_SILENTLY", "NOT_STARTED", "Outcome", "Outcomes", "differing", "tell", "write_csv"]

ENDED_SILENTLY = "ended without a word: killed, out of memory or out of time"
NOT_STARTED = "was not started"
COLUMNS = ("job", "overrides", "folder", "status", "objective", "seconds", "error")
# Without a terminal rich takes 80 columns, which a table of jobs or runs does not fit in.
_WIDTH = 160


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes
    ----------
    job
        Its number in the sweep, from 0.
    overrides
        `key=value` words that made its configuration.
    folder
        Where it wrote, absolute; "" for a job that never began.
    status
        "started" only while it runs: read after the end of the sweep, it is a failure.
    objective
        The figure that the sweep compares, if it names one.
    seconds
        How long it took.
    error
        What went wrong, in one line.
    traceback
        Of a failure that is not the user's, "" otherwise.
    """

    job: int
    overrides: tuple[str, ...]
    folder: str
    status: Literal["started", "done", "failed"]
    objective: float | None = None
    seconds: float | None = None
    error: str = ""
    traceback: str = ""

    @property
    def is_users(self) -> bool:
        """Whether it failed by something that the user can mend."""
        silent = self.error in (ENDED_SILENTLY, NOT_STARTED)
        return self.status == "failed" and not self.traceback and not silent


@dataclass(frozen=True)
class Outcomes:
    """The folder `.jobs` of a sweep: one JSON a job, and the traceback of one that broke.

    Attributes
    ----------
    folder
        Absolute path, the same for every process of the sweep.
    """

    folder: Path

    @property
    def planned(self) -> Path:
        """Where the jobs of a dry run note what they plan."""
        return self.folder / "planned"

    def forget(self) -> None:
        """Make way for the same sweep, run again."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, outcome: Outcome) -> None:
        """Note what became of a job, in place of what was noted before."""
        write_json(asdict(outcome), self.folder / f"{outcome.job}.json")
        if outcome.traceback:
            with atomic_path(self.traceback_of(outcome)) as temporary:
                temporary.write_text(outcome.traceback)

    def traceback_of(self, outcome: Outcome) -> Path:
        """Where the traceback of a job is kept."""
        return self.folder / f"{outcome.job}.traceback.txt"

    def read(self) -> list[Outcome]:
        """All that jobs have written, by their number."""
        lines = [json.loads(file.read_text()) for file in self.folder.glob("*.json")]
        found = [Outcome(**{**line, "overrides": tuple(line["overrides"])}) for line in lines]
        return sorted(found, key=lambda outcome: outcome.job)

    def final(self, planned: Sequence[tuple[str, ...]] | None) -> list[Outcome]:
        """What became of all jobs, now that none of them runs any more.

        Parameters
        ----------
        planned
            Overrides of all jobs, or None where a search chose them as it went.
        """
        found = [
            replace(outcome, status="failed", error=ENDED_SILENTLY)
            if outcome.status == "started"
            else outcome
            for outcome in self.read()
        ]
        written = {outcome.job for outcome in found}
        missing = [
            Outcome(job, overrides, "", "failed", error=NOT_STARTED)
            for job, overrides in enumerate(planned or ())
            if job not in written
        ]
        return sorted([*found, *missing], key=lambda outcome: outcome.job)


def differing(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """Of each job `{key: value}` of the overrides in which the jobs differ; of one job all."""
    pairs = [dict(word.lstrip("+").partition("=")[::2] for word in o.overrides) for o in outcomes]
    if len(pairs) == 1:
        return pairs
    keys = list(dict.fromkeys(key for pair in pairs for key in pair))
    kept = [key for key in keys if len({pair.get(key) for pair in pairs}) > 1]
    return [{key: pair[key] for key in kept if key in pair} for pair in pairs]


def write_csv(outcomes: Sequence[Outcome], sweep: Path) -> Path:
    """Write `jobs.csv` into the folder of the sweep; `folder` is relative to it."""
    file = sweep / "jobs.csv"
    with atomic_path(file) as temporary, temporary.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for outcome, pairs in zip(outcomes, differing(outcomes), strict=True):
            folder = os.path.relpath(outcome.folder, sweep) if outcome.folder else ""
            figures = (outcome.objective, outcome.seconds)
            cells = ["" if value is None else repr(value) for value in figures]
            table.writerow(
                [outcome.job, _words(pairs), folder, outcome.status, *cells, outcome.error]
            )
    return file


def tell(
    outcomes: Sequence[Outcome],
    objective: str | None,
    direction: str,
    console: Console,
    *,
    planned: bool = False,
) -> None:
    """Print a row a job, what those that failed say, and which was best by the objective.

    Of a dry run the jobs are only `planned`, in as many seconds as they are estimated to take.
    """
    make_room(console)
    pairs, best = differing(outcomes), _best(outcomes, direction)
    compared = objective if any(o.objective is not None for o in outcomes) else None
    console.print(_table(outcomes, pairs, compared, best, "planned" if planned else "done"))
    said = []
    for outcome, pair in zip(outcomes, pairs, strict=True):
        if outcome.status == "failed":
            settings = f" ({_words(pair)})" if pair else ""
            said.append(f"job {outcome.job}{settings}: {outcome.error}")
    if best is not None and len(outcomes) > 1:
        words = _words(pairs[outcomes.index(best)])
        found = f"job {best.job}, {words}: {best.objective:.4g}"
        said.append(f"best by {objective} ({direction}): {found}")
    if objective and not compared and not planned and len(said) < len(outcomes):
        said.append(f"not compared: no job has made {objective}")
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def make_room(console: Console) -> None:
    """Make a console that is no terminal wide enough for a table of jobs or runs."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)


def _table(
    outcomes: Sequence[Outcome],
    pairs: Sequence[dict[str, str]],
    objective: str | None,
    best: Outcome | None,
    done: str,
) -> Table:
    """A row a job; what is long folds, so that nothing else is squeezed out."""
    n_failed = sum(outcome.status == "failed" for outcome in outcomes)
    title = f"{len(outcomes) - n_failed} of {len(outcomes)} jobs {done}"
    table = Table(title=title + (f", {n_failed} failed" if n_failed else ""))
    keys = list(dict.fromkeys(key for pair in pairs for key in pair)) if len(pairs) > 1 else []
    table.add_column("job", no_wrap=True)
    for key in keys:
        table.add_column(key, overflow="fold")
    table.add_column("status", no_wrap=True)
    if objective:
        table.add_column(objective, overflow="fold")
    table.add_column("seconds", no_wrap=True)
    for outcome, pair in zip(outcomes, pairs, strict=True):
        failed = outcome.status == "failed"
        cells = [str(outcome.job), *(pair.get(key, "") for key in keys)]
        cells.append("failed" if failed else done)
        if objective:
            cells.append("" if outcome.objective is None else f"{outcome.objective:.4g}")
        cells.append("" if outcome.seconds is None else f"{outcome.seconds:.1f}")
        style = "red" if failed else "green" if outcome is best else ""
        table.add_row(*map(Text, cells), style=style)
    return table


def _words(pair: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in pair.items())


def _best(outcomes: Sequence[Outcome], direction: str) -> Outcome | None:
    scored = [o for o in outcomes if o.objective is not None and math.isfinite(o.objective)]
    if not scored:
        return None
    sign = 1 if direction == "maximize" else -1
    return max(scored, key=lambda outcome: sign * (outcome.objective or 0.0))
