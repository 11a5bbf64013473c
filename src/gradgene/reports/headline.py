"""The few numbers that a run comes down to, each with its interval and what to hold it against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradgene.genes import mean_interval
from gradgene.genes.statistics import MIN_DONORS
from gradgene.plotting import METRIC_NAMES
from gradgene.reports.figures import pick_curves
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles

__all__ = [
    "JUDGED_AT",
    "KeyFigure",
    "PruningPoint",
    "accuracy_interval",
    "bracketed",
    "key_figures",
    "pruning_points",
]

#: Order of removal → the share at which it is judged, if it was measured there.
JUDGED_AT = {"lowest_first": 0.95, "highest_first": 0.02}


@dataclass(frozen=True)
class KeyFigure:
    """A number in words: its name, value and interval (or ""), and what to hold it against."""

    name: str
    value: str
    interval: str
    note: str


@dataclass(frozen=True)
class PruningPoint:
    """Where a run's pruning is judged in one order.

    Attributes
    ----------
    order, ratio
        Which genes went first, and the share removed.
    own, all
        Rows of the main ranking, and of every ranking, there.
    arm, metric
        What was measured.
    """

    order: str
    ratio: float
    own: pd.DataFrame
    all: pd.DataFrame
    arm: str
    metric: str


def pruning_points(run: RunFiles) -> Iterator[PruningPoint]:
    """A point of each order that has one beside 0: keeping few of the best, losing few of them."""
    picked, main = pick_curves(run), run.main_ranking
    if picked is None or main is None:
        return
    curves, arm, metric = picked
    for order, wanted in JUDGED_AT.items():
        at_order = curves[curves["order"] == order]
        own = at_order[at_order["ranking"] == main]
        ratios = sorted(float(r) for r in own["ratio"].unique() if r > 0)
        if not ratios:
            continue
        near = [r for r in ratios if abs(r - wanted) < 1e-6]
        ratio = (near or [ratios[-1] if order == "lowest_first" else ratios[0]])[0]
        here = at_order[at_order["ratio"] == ratio]
        yield PruningPoint(order, ratio, own[own["ratio"] == ratio], here, arm, metric)


def accuracy_interval(run: RunFiles) -> tuple[float, float, str] | None:
    """A 95 % interval of the balanced accuracy on test cells, and what it is over.

    A t-interval of the donors' own where there are three; else one over cells, from the confusion
    of labels: it says what other cells of the same donors would change, and no more. None where
    neither is known.
    """
    value, donors = (run.metrics or {}).get("test/balanced_accuracy"), run.donors
    if value is None:
        return None
    if donors is not None and "balanced_accuracy" in donors:
        known = donors["balanced_accuracy"].dropna().to_numpy(dtype=float)
        if len(known) >= MIN_DONORS:
            low, high = mean_interval(known)
            return low, high, f"over {len(known)} donors"
    if run.confusion is None:
        return None
    right = run.confusion["truth"].astype(str) == run.confusion["predicted"].astype(str)
    of_label = run.confusion.assign(right=run.confusion["n_cells"].where(right, 0))
    sums = of_label.groupby("truth")[["n_cells", "right"]].sum().query("n_cells > 0")
    if sums.empty or abs(float((sums["right"] / sums["n_cells"]).mean()) - float(value)) > 1e-3:
        return None  # of other cells than the value
    # Two cells more of each kind (Agresti and Coull): no label's recall is without error.
    recall = (sums["right"] + 2) / (sums["n_cells"] + 4)
    se = float(np.sqrt((recall * (1 - recall) / (sums["n_cells"] + 4)).sum())) / len(sums)
    low, high = (float(np.clip(value + side * 1.96 * se, 0, 1)) for side in (-1, 1))
    return low, high, "over cells"


def bracketed(low: Any, high: Any, over: str = "") -> str:
    """An interval in brackets, nothing where there is none."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return f"[{number(float(low))}, {number(float(high))}]" + (f" {over}" if over else "")


def key_figures(run: RunFiles) -> list[KeyFigure]:
    """The numbers for the top of the page, of those that the run has."""
    return [*_model(run), *_gene(run), *_pruning(run)]


def _model(run: RunFiles) -> Iterator[KeyFigure]:
    metrics = run.metrics or {}
    value, contrast = (metrics.get(f"test/{k}balanced_accuracy") for k in ("", "contrast_"))
    if value is None:
        return
    found, labels = accuracy_interval(run), run.confusion
    interval = "" if found is None else bracketed(*found)
    n = 0 if labels is None else int((labels.groupby("truth")["n_cells"].sum() > 0).sum())
    note = f"guessing: {number(1 / n)} ({n} labels)" if n else ""
    if contrast is not None and n > 2:
        note += f"; these two labels alone: {number(float(contrast))}"
    yield KeyFigure("Balanced accuracy on test cells", number(float(value)), interval, note)


def _gene(run: RunFiles) -> Iterator[KeyFigure]:
    genes = run.ranked_genes
    if genes is None or genes.empty:
        return
    best = genes.iloc[0]
    interval = bracketed(best.get("ci_low"), best.get("ci_high"), "over donors")
    sure = ""
    if "p_adjusted" in genes and genes["p_adjusted"].notna().any():
        count = int((genes["p_adjusted"] < 0.05).sum())
        sure = f"; {count:,} genes with adjusted p < 0.05"
    note = f"score {number(float(best['score']))}, highest of {len(genes):,}{sure}"
    yield KeyFigure("The gene it relies on most", str(best["gene"]), interval, note)


def _pruning(run: RunFiles) -> Iterator[KeyFigure]:
    for point in pruning_points(run):
        metric = METRIC_NAMES.get(point.metric, point.metric)
        if point.order == "lowest_first":
            name = f"{metric} with only the best {percent(1 - point.ratio)} of genes"
        else:
            name = f"{metric} without the best {percent(point.ratio)} of genes"
        low = high = None
        if {"ci_low", "ci_high"} <= set(point.own.columns):
            low, high = (point.own[c].mean() for c in ("ci_low", "ci_high"))
        random = point.all[point.all["ranking"] == "random"]["value"]
        note = f"random genes: {number(float(random.mean()))}" if len(random) else ""
        if len(random) > 1:
            note += f" ({number(float(random.min()))} to {number(float(random.max()))})"
        value = number(float(point.own["value"].mean()))
        yield KeyFigure(name, value, bracketed(low, high, "over donors"), note)
