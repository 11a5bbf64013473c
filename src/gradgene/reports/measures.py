"""The few figures by which runs are compared, each with its interval where it has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.plotting import ORDER_NAMES
from gradgene.reports.headline import JUDGED_AT
from gradgene.reports.numbers import percent
from gradgene.reports.run_files import RunFiles

__all__ = ["Measure", "run_measures"]

NAN = float("nan")
#: Figures of the model that are shown, each the first of these that a run has.
QUALITY = (
    ("Balanced accuracy", ("test/contrast_balanced_accuracy", "test/balanced_accuracy")),
    ("AUROC", ("test/contrast_auroc", "test/auroc")),
)
#: Order of removal → what is said of the point where it is judged.
POINTS = {
    "lowest_first": "Balanced accuracy on the best {kept}",
    "highest_first": "Balanced accuracy without the best {gone}",
}


#: How far the scores of the main method are from adding up: (name of the figure, what is said).
DELTAS = (
    ("relative_delta_p50", "Relative delta, median"),
    ("relative_delta_p99", "Relative delta, 99 %"),
)


@dataclass(frozen=True)
class Measure:
    """A figure of a run; `low` and `high` are NaN where it has no interval."""

    title: str
    value: float
    low: float = NAN
    high: float = NAN


def run_measures(run: RunFiles, objective: str | None = None) -> list[Measure]:
    """What a run is judged by: its model, the known genes among the best, its pruning, its scores.

    Parameters
    ----------
    run
        The run's files; what it did not measure is left out.
    objective
        A figure of `metrics.json` that comes first, under its own name.
    """
    found = [*_of_metrics(run, objective), *_of_pruning(run), *_of_scores(run)]
    return [measure for measure in found if np.isfinite(measure.value)]


def _of_metrics(run: RunFiles, objective: str | None) -> Iterator[Measure]:
    metrics = {k: v for k, v in (run.metrics or {}).items() if isinstance(v, int | float)}
    if objective in metrics:
        yield Measure(objective, float(metrics[objective]))
    for title, keys in QUALITY:
        key = next((key for key in keys if key in metrics), None)
        if key is not None and key != objective:
            yield Measure(f"{title} of the model", float(metrics[key]))
    for ranking, top, value in run.recovered:
        if ranking == run.ranking_name and f"recovery/{ranking}@{top}" != objective:
            yield Measure(f"Known genes of the best {top}", float(value))


def _of_pruning(run: RunFiles) -> Iterator[Measure]:
    """Areas to random's curve, and the points that say most, of the main ranking."""
    both = {"arm": "both", "metric": "balanced_accuracy"}
    # Chance has no area to itself.
    for order, said in ORDER_NAMES.items() if run.ranking_name != "random" else ():
        row = _row(run.summary, ranking=run.ranking_name, order=order, **both)
        if row is not None:
            yield _measure(f"Area to random, {said.removesuffix(' removed first')} first", row)
    for order, ratio in JUDGED_AT.items():
        at = run.curves
        if at is not None:
            at = at[(at["ratio"] - ratio).abs() < 1e-9]
        row = _row(at, ranking=run.main_ranking, order=order, **both)
        if row is not None:
            title = POINTS[order].format(kept=percent(round(1 - ratio, 9)), gone=percent(ratio))
            yield _measure(title, row)


def _of_scores(run: RunFiles) -> Iterator[Measure]:
    row = _row(run.faithfulness, method=run.method, measure="swap_gap")
    if row is not None:
        yield _measure("Swap-gap of the scores", row)
    for name, said in DELTAS:
        value = (run.metrics or {}).get(f"attribution/{run.method}/{name}")
        if isinstance(value, int | float):
            yield Measure(said, float(value))


def _row(frame: pd.DataFrame | None, **wanted: str | None) -> pd.Series | None:
    """The row that has all of these values, the first of several; None without one."""
    if frame is None or not set(wanted) <= set(frame.columns):
        return None
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return None if frame.empty else frame.iloc[0]


def _measure(title: str, row: pd.Series) -> Measure:
    column = "area" if "area" in row else "value"
    low, high = (float(row[c]) if pd.notna(row.get(c)) else NAN for c in ("ci_low", "ci_high"))
    return Measure(title, float(row[column]), low, high)
