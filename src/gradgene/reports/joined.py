"""The page of several runs: what was tried, what came of it, what failed; one file like a report.

It stands in the folder of a sweep and points to the report of each run by a relative path, so that
the folder can be moved or sent as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from gradgene import __version__
from gradgene.plotting import PALETTE
from gradgene.reports.html import page_template, picture
from gradgene.reports.measures import Measure
from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles, write_atomically
from gradgene.reports.sections import Table, command, given
from gradgene.reports.sections.tables import frame_table
from gradgene.reports.verdict import leaks, question

__all__ = ["JoinedRuns", "run_table", "write_joined"]

#: Of the genes of all donors together so many are shown; the file beside the page has them all.
TOP = 50
#: More values of a setting are counted and not listed.
MOST_VALUES = 12
#: A longer name of a run is broken over lines.
LONG = 24
_ALT = {
    "measures": "Figures of each run side by side, with intervals where there are any",
    "pruning": "Pruning curves of all runs, in both orders of removal",
    "agreement": "Heat map of the agreement of the runs' rankings, two by two",
}


@dataclass(frozen=True)
class JoinedRuns:
    """What the page shows; every part beside the first four may be None.

    Attributes
    ----------
    runs, measures
        The runs, and what each is judged by.
    settings
        A row a run, a column for each setting that tells them apart.
    command
        The line that makes this page again.
    title
        Name of the sweep.
    objective, direction
        The figure that the sweep was about, and whether to `minimize` or `maximize` it.
    jobs
        `jobs.csv` of the sweep: `job, overrides, folder, status, objective, seconds, error`.
    rankings, agreement, genes
        Medians over runs of each ranking, likeness of the runs two by two, and genes over the
        donors of all runs.
    """

    runs: tuple[RunFiles, ...]
    measures: tuple[list[Measure], ...]
    settings: pd.DataFrame
    command: str
    title: str = ""
    objective: str | None = None
    direction: str = "maximize"
    jobs: pd.DataFrame | None = None
    rankings: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None
    genes: pd.DataFrame | None = None
    figures: Mapping[str, Path] = field(default_factory=dict)

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `jobs` that failed."""
        if self.jobs is None:
            return pd.DataFrame()
        return self.jobs[self.jobs["status"] == "failed"]


@dataclass(frozen=True)
class Cell:
    """A cell of the table of runs: what is read, what it is sorted by (None: last), its link."""

    text: str
    key: str | float | None = None
    link: str | None = None


def write_joined(joined: JoinedRuns, folder: Path) -> Path:
    """Write `sweep.html` of several runs into `folder`; raises `OutputError` if that fails."""
    columns, rows = run_rows(joined, folder)
    questions = {question(run) for run in joined.runs}
    page = page_template("joined.html.j2").render(
        question=questions.pop() if len(questions) == 1 else "Several questions, side by side",
        joined=joined,
        said=sentences(joined),
        leaks=any(map(leaks, joined.runs)),
        columns=columns,
        rows=rows,
        # Hydra names folders by everything that was overridden.
        long=max(len(run.path.name) for run in joined.runs) > LONG,
        failures=_failures(joined.failed),
        rankings=_all_of(joined.rankings),
        agreement=frame_table(joined.agreement, _AGREEMENT),
        genes=frame_table(None if joined.genes is None else joined.genes.head(TOP), _GENES),
        n_genes=0 if joined.genes is None else len(joined.genes),
        commands=_commands(joined),
        figures={n: picture(path, _ALT[n]) for n, path in joined.figures.items()},
        colours=PALETTE,
        version=__version__,
    )
    return write_atomically(folder / "sweep.html", page.encode("utf-8"))


def run_rows(joined: JoinedRuns, folder: Path) -> tuple[list[tuple[str, bool]], list[list[Cell]]]:
    """Headings, each with whether it is of numbers, and a row of cells for each run."""
    titles = list(dict.fromkeys(m.title for measures in joined.measures for m in measures))
    numeric = [bool(pd.api.types.is_numeric_dtype(joined.settings[c])) for c in joined.settings]
    columns = [("Run", False), *zip(map(str, joined.settings), numeric, strict=True)]
    columns += [(title, True) for title in titles] + [("Seconds", True)]
    rows = []
    for i, (run, measures) in enumerate(zip(joined.runs, joined.measures, strict=True)):
        of = {measure.title: measure for measure in measures}
        row = [Cell(run.path.name, run.path.name, _link(run.path / "report.html", folder))]
        row += [_setting(value) for value in joined.settings.iloc[i].tolist()]
        row += [_measured(of.get(title)) for title in titles]
        rows.append([*row, _number(_seconds(run, joined.jobs))])
    if all(row[-1].key is None for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return columns, rows


def run_table(joined: JoinedRuns, folder: Path | None) -> pd.DataFrame:
    """The table of runs as numbers: a row a run.

    Returns
    -------
    DataFrame
        `run`, the settings, each measure with `<measure> low` and `<measure> high` where any run
        has an interval, `seconds`, `folder` (relative to `folder` where there is one), and every
        `test/` and `attribution/` figure of `metrics.json`.
    """
    rows: list[dict[str, Any]] = []
    for i, (run, measures) in enumerate(zip(joined.runs, joined.measures, strict=True)):
        row: dict[str, Any] = {"run": run.path.resolve().name}
        row |= {str(name): value for name, value in joined.settings.iloc[i].items()}
        for m in measures:
            row |= {m.title: m.value, f"{m.title} low": m.low, f"{m.title} high": m.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    bounds = [f"{m.title} {end}" for of in joined.measures for m in of for end in ("low", "high")]
    table = table.drop(columns=[c for c in set(bounds) if table[c].isna().all()])
    paths = [run.path.resolve() for run in joined.runs]
    places = [str(p) if folder is None else os.path.relpath(p, folder.resolve()) for p in paths]
    seconds = pd.Series([_seconds(run, joined.jobs) for run in joined.runs], dtype=float)
    figures = pd.DataFrame([run.metrics or {} for run in joined.runs], index=table.index)
    own = ("test/", "attribution/")
    kept = [c for c in figures if str(c).startswith(own) and c not in table]
    table["seconds"], table["folder"] = seconds, places
    return table.join(figures[kept])


def sentences(joined: JoinedRuns) -> list[str]:
    """What was tried and what came of it, in words."""
    n, failed = len(joined.runs), len(joined.failed)
    tried = []
    for name in joined.settings:
        values = list(dict.fromkeys(map(number, joined.settings[name].tolist())))
        shown = ", ".join(values) if len(values) <= MOST_VALUES else f"{len(values)} values"
        tried.append(f"{name} ({shown})")
    runs = "1 run" if n == 1 else f"{n} runs"
    said = [f"{runs}, which differ in {'; '.join(tried)}." if tried else f"{runs}."]
    if failed:
        said.append(f"{failed} of {failed + n} jobs failed; they are listed below.")
    best = _best(joined)
    if best is not None:
        run, value = best
        least = "lowest" if joined.direction == "minimize" else "highest"
        said.append(f"The {least} {joined.objective} is {number(value)}, of {run.path.name}.")
    return said


def _best(joined: JoinedRuns) -> tuple[RunFiles, float] | None:
    """The run with the best objective, and what it reached."""
    values = [
        next((m.value for m in of if m.title == joined.objective), float("nan"))
        for of in joined.measures
    ]
    if not np.isfinite(values).any():
        return None
    at = int(np.nanargmin(values) if joined.direction == "minimize" else np.nanargmax(values))
    return joined.runs[at], values[at]


def _setting(value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(float(value), number(value))
    return Cell("–" if value is None else str(value), None if value is None else str(value))


def _number(value: float | None, text: str | None = None) -> Cell:
    if value is None or not np.isfinite(value):
        return Cell("–")
    return Cell(text or number(value), value)


def _measured(measure: Measure | None) -> Cell:
    if measure is None:
        return Cell("–")
    value = measure.value
    text = number(int(value)) if value.is_integer() and abs(value) > 1 else number(value)
    if np.isfinite([measure.low, measure.high]).all():
        text += f" [{number(measure.low)}, {number(measure.high)}]"
    return _number(value, text)


def _seconds(run: RunFiles, jobs: pd.DataFrame | None) -> float | None:
    """What a run took: as the sweep measured it, else what its stages took together."""
    if jobs is not None and "seconds" in jobs:
        mine = jobs["folder"].map(lambda folder: Path(str(folder)).name) == run.path.name
        if mine.sum() == 1:
            return float(jobs["seconds"][mine].iloc[0])
    if run.stages is None or "seconds" not in run.stages:
        return None
    return float(run.stages["seconds"].sum())


def _link(target: Path, folder: Path) -> str | None:
    """The way from the page to a file, as a relative address; None where there is no such file."""
    if not target.is_file():
        return None
    return quote(Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix())


def _failures(failed: pd.DataFrame) -> Table | None:
    headings = {"job": "Job", "overrides": "Settings", "seconds": "Seconds", "error": "Error"}
    return frame_table(failed, headings) if len(failed) else None


def _all_of(frame: pd.DataFrame | None) -> Table | None:
    return None if frame is None else frame_table(frame, {c: c.capitalize() for c in frame.columns})


def _commands(joined: JoinedRuns) -> Sequence[str]:
    """The lines that made the runs, each once, and the one that made this page."""
    made = dict.fromkeys(line for run in joined.runs if (line := given(run) or command(run)))
    return [*made, joined.command]


_AGREEMENT = {
    "first": "Run",
    "second": "And run",
    "spearman": "Rank correlation of the scores",
    "top_overlap": "Share of the best genes in common",
    "sign_agreement": "Same direction among those",
    "n_genes": "Genes",
}
_GENES = {
    "rank": "Rank",
    "gene": "Gene",
    "score": "Score",
    "ci_low": "CI low",
    "ci_high": "CI high",
    "p_adjusted": "Adjusted p",
    "n_donors": "Donors",
    "direction": "Direction",
    "log_fold_change": "Log FC",
}
