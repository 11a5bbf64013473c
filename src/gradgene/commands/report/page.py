"""The page of several runs: what goes into it, and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

import pandas as pd

from gradgene.commands.config.facts import SweepFacts
from gradgene.commands.report.curves import over_repeats, run_labels, run_settings
from gradgene.commands.report.sweep import Sweep
from gradgene.plotting import faithfulness_measures, pruning_orders, ranking_agreement
from gradgene.reports import (
    JoinedRuns,
    Measure,
    RunFiles,
    run_measures,
    write_joined,
    write_pictures,
)

__all__ = ["draw_curves", "join_runs", "joined_measures", "write_page"]

#: More runs than this are no heat map to read, and more labels no figure of dots.
MOST = 40


def join_runs(
    sweep: Sweep,
    runs: Sequence[RunFiles],
    tables: Mapping[str, pd.DataFrame | None],
    command: str,
) -> JoinedRuns:
    """What is known of several runs together, before anything is drawn.

    Parameters
    ----------
    sweep, runs
        The runs, their files, and what the sweep says of its jobs.
    tables
        `rankings`, `agreement` and `genes` over all runs, None where there are none.
    command
        The line that makes their page again.
    """
    about = runs[0].section("sweep")
    objective = about.get("objective")
    return JoinedRuns(
        runs=tuple(runs),
        measures=tuple(run_measures(run, objective) for run in runs),
        settings=run_settings(runs),
        command=command,
        title="" if sweep.folder is None else sweep.folder.resolve().name,
        objective=objective,
        direction=SweepFacts(about.get("objective"), about.get("direction")).towards,
        jobs=sweep.jobs,
        rankings=tables["rankings"],
        agreement=_named(tables["agreement"], runs),
        genes=tables["genes"],
    )


def write_page(joined: JoinedRuns, curves: pd.DataFrame | None, folder: Path) -> Path:
    """Write figures and `sweep.html` of several runs into `folder`; gives the page.

    Parameters
    ----------
    joined
        The runs.
    curves
        The pruning curves of all of them, if there are any.
    folder
        Where the page goes.
    """
    return write_joined(replace(joined, figures=_figures(joined, curves, folder)), folder)


def joined_measures(
    runs: Sequence[RunFiles], measures: Sequence[Sequence[Measure]]
) -> pd.DataFrame:
    """What runs are judged by, repeats averaged: `label, title, value, ci_low, ci_high, n_runs`."""
    rows = [
        {"label": label, "title": m.title, "value": m.value, "ci_low": m.low, "ci_high": m.high}
        for label, of in zip(run_labels(runs), measures, strict=True)
        for m in of
    ]
    columns = ["label", "title", "value", "ci_low", "ci_high"]
    return over_repeats(pd.DataFrame(rows, columns=columns), ["label", "title"])


def draw_curves(runs: Sequence[RunFiles], curves: pd.DataFrame, file: Path) -> Path:
    """One figure of the joined pruning curves of `runs`, as PNG and SVG; gives the PNG."""
    chances = {float((run.metrics or {}).get("pruning/chance", 0.5)) for run in runs}
    chance = chances.pop() if len(chances) == 1 else None
    figure = pruning_orders(curves, chance=chance, main=str(curves["ranking"].iloc[0]))
    return write_pictures(figure, file.with_suffix(""))


def _figures(joined: JoinedRuns, curves: pd.DataFrame | None, folder: Path) -> dict[str, Path]:
    """The figures there is something to draw for, name → PNG with its SVG beside it."""
    found: dict[str, Path] = {}
    measures, agreement = joined_measures(joined.runs, joined.measures), joined.agreement
    if len(measures) and measures["label"].nunique() <= MOST:
        titles = ["\n".join(wrap(title, 28)) for title in measures["title"]]
        table = measures.assign(title=titles).rename(columns={"label": "method"})
        found["measures"] = write_pictures(faithfulness_measures(table), folder / "measures")
    if curves is not None:
        found["pruning"] = draw_curves(joined.runs, curves, folder / "pruning.png")
    if agreement is not None:
        names = list(dict.fromkeys([*agreement["first"], *agreement["second"]]))
        if 2 < len(names) <= MOST:
            turned = agreement.rename(columns={"first": "second", "second": "first"})
            figure = ranking_agreement(pd.concat([agreement, turned]), names)
            found["agreement"] = write_pictures(figure, folder / "agreement")
    return found


def _named(agreement: pd.DataFrame | None, runs: Sequence[RunFiles]) -> pd.DataFrame | None:
    """The agreement by what tells the runs apart; by folder where there are repeats."""
    labels = run_labels(runs)
    if agreement is None or len(set(labels)) < len(labels):
        return agreement
    names = {run.path.resolve().name: label for run, label in zip(runs, labels, strict=True)}
    return agreement.replace({"first": names, "second": names})
