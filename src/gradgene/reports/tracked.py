"""What a finished stage tells every tracker: its figures, and its curves step by step."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradgene.reports.run_files import RunFiles

__all__ = ["best_validation", "curve_steps", "mean_curves", "stage_figures"]

#: Of the curves and areas, those that a dashboard compares.
ARM, METRIC = "both", "balanced_accuracy"
#: Steps are whole numbers: thousandths of the genes that were removed.
PER_STEP = 1000


def stage_figures(run: RunFiles, stage: str, prefixes: tuple[str, ...]) -> dict[str, float]:
    """Figures of one stage: its share of `metrics.json`, and what its tables add.

    Parameters
    ----------
    run
        The run's files as the stage left them.
    stage
        Its name; `prune` adds `pruning/area/<order>/<ranking>`, `train` the validation of the
        checkpoint that was kept.
    prefixes
        How the names of its metrics begin.
    """
    figures = {k: v for k, v in (run.metrics or {}).items() if k.startswith(prefixes)}
    if stage == "train":
        figures |= best_validation(run)
    if stage == "prune" and run.summary is not None:
        table = run.summary
        if {"arm", "metric"} <= set(table.columns):
            table = table[(table["arm"] == ARM) & (table["metric"] == METRIC)]
        if "against" in table:
            table = table[table["against"] == "random"]
        figures |= {
            f"pruning/area/{order}/{ranking}": area
            for ranking, order, area in zip(
                table["ranking"], table["order"], table["area"], strict=True
            )
        }
    return _numbers(figures)


def best_validation(run: RunFiles) -> dict[str, float]:
    """`val/…` of the epoch of least validation loss, whose checkpoint is kept."""
    history = run.history
    if history is None or "val/loss" not in history or history["val/loss"].isna().all():
        return {}
    row = history.iloc[int(history["val/loss"].argmin())]
    return _numbers({str(k): v for k, v in row.items() if str(k).startswith("val/")})


def mean_curves(curves: pd.DataFrame, by: str) -> pd.DataFrame:
    """Balanced accuracy on all cells, the mean over draws: `<by>, ranking, ratio, value`."""
    chosen = curves[(curves["arm"] == ARM) & (curves["metric"] == METRIC)]
    keys = [by, "ranking", "ratio"]
    return chosen.groupby(keys, sort=False)["value"].mean().reset_index()


def curve_steps(run: RunFiles, stage: str) -> list[tuple[int, dict[str, float]]]:
    """The curves of a stage as figures by step, a step being a thousandth of the genes removed.

    Returns pairs of step and figures `pruning/curves/<order>/<ranking>` (`pruning/retrained/…` for
    models trained without the genes), with `pruning/removed`, the share of genes. Empty for stages
    without curves.
    """
    if stage != "prune":
        return []
    rows: dict[int, dict[str, float]] = {}
    for what, table in (("curves", run.curves), ("retrained", run.retrained)):
        if table is None:
            continue
        for row in mean_curves(table.assign(order=table.get("order", "")), "order").itertuples():
            step = round(PER_STEP * float(str(row.ratio)))
            at = rows.setdefault(step, {"pruning/removed": float(str(row.ratio))})
            at[f"pruning/{what}/{row.order}/{row.ranking}"] = float(str(row.value))
    return [(step, _numbers(rows[step])) for step in sorted(rows)]


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """Only finite numbers, which is all that every tracker takes."""
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, numbers.Real) and math.isfinite(value)
    }
