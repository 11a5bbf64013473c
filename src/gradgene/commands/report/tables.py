"""The tables of several runs: what is written beside their page, and what fits a terminal of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gradgene.commands.report.curves import VARIED, run_labels, run_settings
from gradgene.commands.sweep.jobs import make_room
from gradgene.plotting import mark_leaks
from gradgene.reports import JoinedRuns, RunFiles
from gradgene.reports.headline import JUDGED_AT
from gradgene.reports.numbers import number
from gradgene.store import atomic_path

__all__ = ["median_rankings", "print_runs", "write_tables"]

#: What is printed of the pooled table.
TOP = 15
SHOWN = ["rank", "gene", "score", "ci_low", "ci_high", "p_adjusted", "n_donors", "log_fold_change"]
#: Of more runs the table of every two is for a file.
MOST = 6


def median_rankings(runs: Sequence[RunFiles]) -> pd.DataFrame:
    """Figures of every ranking, medians over runs that are repeats of each other, best first.

    Returns
    -------
    DataFrame
        `ranking`, a column for each setting that tells runs apart (but for seed and held-out
        donors; that of the ranking a run is about is called `main ranking`), known genes, and
        balanced accuracy of both arms with the best 5 % alone and without the best 2 %.
    """
    settings = run_settings(runs).drop(columns=[".".join(key) for key in VARIED], errors="ignore")
    settings = settings.rename(columns={"ranking": "main ranking"})
    rows = [
        {"ranking": ranking, **settings.iloc[i].to_dict(), **values}
        for i, run in enumerate(runs)
        for ranking, values in _figures(run).items()
    ]
    if not rows:  # none of the runs has been pruned yet
        return pd.DataFrame(columns=["ranking"])
    keys = ["ranking", *settings]
    medians = pd.DataFrame(rows).groupby(keys, dropna=False, sort=False).median().reset_index()
    best = list(medians.columns[len(keys) :][:1])
    return medians.sort_values(best, ascending=False, kind="stable", ignore_index=True)


def _figures(run: RunFiles) -> dict[str, dict[str, float]]:
    """Ranking -> figures of one run; random draws are averaged, leaking rankings marked."""
    found: dict[str, dict[str, float]] = {}
    for name, top, value in run.recovered:
        found.setdefault(name, {})[f"known of top {top}"] = float(value)
    if run.curves is None:
        return found
    curves = mark_leaks(run.curves)
    both = curves[(curves["arm"] == "both") & (curves["metric"] == "balanced_accuracy")]
    for order, ratio in JUDGED_AT.items():
        at = both[(both["order"] == order) & ((both["ratio"] - ratio).abs() < 1e-9)]
        label = f"{'keep best' if order == 'lowest_first' else 'drop best'} " + (
            f"{1 - ratio:.0%}" if order == "lowest_first" else f"{ratio:.0%}"
        )
        for ranking, value in at.groupby("ranking")["value"].mean().items():
            found.setdefault(str(ranking), {})[label] = float(value)
    return found


def write_tables(tables: Mapping[str, pd.DataFrame | None], folder: Path) -> None:
    """Write every table that there is to `<folder>/<name>.csv`."""
    for name, frame in tables.items():
        if frame is not None:
            with atomic_path(folder / f"{name}.csv") as temporary:
                frame.to_csv(temporary, index=False)


def print_runs(joined: JoinedRuns, console: Console, *, written: bool) -> None:
    """Print a row a run, and of the other tables what is short enough to be read.

    Parameters
    ----------
    joined
        The runs, and the tables over all of them.
    console
        Made as wide as the tables need where it is no terminal.
    written
        Whether the tables are written too, or only where one asks for it.
    """
    make_room(console)
    table, hidden = _run_table(joined, console)
    console.print(table)
    left = [f"{hidden} columns of the table of runs"] * bool(hidden)
    if joined.rankings is not None and len(joined.rankings):
        if len(set(run_labels(joined.runs))) == 1:
            console.print(_frame(joined.rankings, "every ranking, medians over runs"))
        else:
            left.append("every ranking by setting (rankings.csv)")
    if joined.agreement is not None:
        if len(joined.runs) <= MOST:
            console.print(_frame(joined.agreement, "agreement of the runs"))
        else:
            left.append("agreement of the runs (agreement.csv)")
    if joined.genes is not None:
        title = f"best genes over {joined.genes['n_donors'].max()} donors"
        console.print(_frame(joined.genes.head(TOP)[SHOWN], title))
    if left:
        said = "also written" if written else "not shown, written by out=FOLDER"
        console.print(f"{said}: {'; '.join(left)}", highlight=False)


def _run_table(joined: JoinedRuns, console: Console) -> tuple[Table, int]:
    """A row a run with as many measures as the console is wide enough for, and how many not."""
    names = [run.path.resolve().name for run in joined.runs]
    settings = joined.settings
    if settings.empty or settings.astype(str).duplicated().any():
        settings = pd.concat([pd.DataFrame({"run": names}), settings], axis=1)
    of = [{measure.title: measure.value for measure in found} for found in joined.measures]
    measures = pd.DataFrame(of, index=settings.index)
    title = f"{len(names)} runs"
    # In the width of the console itself every measurement would fit: it is cut to that.
    unbounded = console.options.update_width(10_000)
    for n in range(measures.shape[1], -1, -1):
        shown = pd.concat([settings, measures.iloc[:, :n]], axis=1)
        table = _frame(shown, title, whole=settings.shape[1])
        if n and len(names) > 1 and len(set(run_labels(joined.runs))) == 1:
            table.add_section()
            blank = ["median", *[""] * (settings.shape[1] - 1)]
            table.add_row(*blank, *map(number, measures.iloc[:, :n].median()))
        if Measurement.get(console, unbounded, table).minimum <= console.width:
            break
    return table, measures.shape[1] - n


def _frame(frame: pd.DataFrame, title: str, whole: int = 0) -> Table:
    """A frame as a table, numbers to three digits; the first `whole` columns are broken last."""
    table = Table(title=title)
    for i, name in enumerate(frame):
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        justify: JustifyMethod = "right" if numeric else "left"
        table.add_column(Text(str(name)), overflow="fold", justify=justify, no_wrap=i < whole)
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(number(value)) for value in row))
    return table
