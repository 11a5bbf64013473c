"""What the pruning measured: the values of every curve and the areas between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from gradgene.plotting import ARM_NAMES, METRIC_NAMES, ORDER_NAMES, PAPER_METRICS, mark_leaks
from gradgene.reports.figures import pick_curves
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = ["area_table", "arm_tables", "pruning_tables", "retrained_table"]

#: Values below this are rounding.
ROUNDING = 1e-12
#: Areas shown beside the main one: (arm, metric).
AREAS = (
    ("both", "balanced_accuracy"),
    ("both", "auroc"),
    ("both", "probability_drop"),
    ("both", "probability"),
    ("input", "accuracy"),
    ("baseline", "accuracy"),
)


def area_table(run: RunFiles) -> Table | None:
    """Area between each ranking's pruning curve and random's, for each order and kind of area.

    Rankings of random weights are held against their own model's whole panel, and say so.
    """
    picked, summary = pick_curves(run), run.summary
    if summary is None or summary.empty:
        return None
    summary = _mark_areas(run, summary)
    if "against" in summary:
        other = summary["against"] != "random"
        named = summary["ranking"] + ", against its " + summary["against"]
        summary = summary.assign(ranking=summary["ranking"].where(~other, named))
    orders = [order for order in ORDER_NAMES if (summary["order"] == order).any()]
    kinds: list[Any] = [None]
    if {"arm", "metric"} <= set(summary.columns):
        there = set(zip(summary["arm"], summary["metric"], strict=True))
        shown = () if picked is None else (picked[1:],)
        kinds = [kind for kind in dict.fromkeys([*shown, *AREAS]) if kind in there] or sorted(there)
    headings, columns = ["Ranking"], []
    for order in orders:
        for kind in kinds:
            of = summary[summary["order"] == order]
            if kind is not None:
                of = of[(of["arm"] == kind[0]) & (of["metric"] == kind[1])]
            columns.append({row["ranking"]: _value(row, "area") for _, row in of.iterrows()})
            said = ORDER_NAMES[order].capitalize()
            headings.append(said if len(kinds) == 1 else f"{said}: {_kind(*kind)}")
    rows = [(name, *(c.get(name) for c in columns)) for name in dict.fromkeys(summary["ranking"])]
    return make_table(headings, rows)


def _kind(arm: str, metric: str) -> str:
    said = METRIC_NAMES.get(metric, metric.replace("_", " ")).lower().replace("auroc", "AUROC")
    return said if arm == "both" else f"{said}, {ARM_NAMES.get(arm, arm).lower()}"


def _mark_areas(run: RunFiles, summary: pd.DataFrame) -> pd.DataFrame:
    """The areas with leaking rankings marked, where only the curves say which those are too."""
    if "rank_source" in summary or run.curves is None or "rank_source" not in run.curves:
        return mark_leaks(summary)
    source = run.curves.drop_duplicates("ranking").set_index("ranking")["rank_source"]
    return mark_leaks(summary.assign(rank_source=summary["ranking"].map(source)))


def pruning_tables(run: RunFiles) -> dict[str, tuple[str, Table]]:
    """Order → (metric's name, values of every ranking at every ratio, draws averaged)."""
    picked = pick_curves(run)
    if picked is None:
        return {}
    curves, _, metric = picked
    tables = {order: _values(curves[curves["order"] == order]) for order in ORDER_NAMES}
    name = METRIC_NAMES.get(metric, metric)
    return {order: (name, table) for order, table in tables.items() if table is not None}


def arm_tables(run: RunFiles) -> dict[str, list[tuple[str, Table]]]:
    """Order → (arm and metric in words, values) for the published metrics of either arm."""
    if run.curves is None:
        return {}
    return {
        order: found
        for order in ORDER_NAMES
        if (found := list(_arms(run.curves[run.curves["order"] == order])))
    }


def _arms(curves: pd.DataFrame) -> Iterator[tuple[str, Table]]:
    for arm in ("input", "baseline"):
        for metric in PAPER_METRICS:
            table = _values(curves[(curves["arm"] == arm) & (curves["metric"] == metric)])
            if table is not None:
                yield f"{ARM_NAMES[arm]}: {METRIC_NAMES[metric]}", table


def retrained_table(run: RunFiles) -> Table | None:
    """Balanced accuracy of models trained without each ranking's best genes, with intervals."""
    found = run.retrained
    if found is None:
        return None
    found = found[(found["arm"] == "both") & (found["metric"] == "balanced_accuracy")]
    if found.empty:
        return None
    ratios = sorted(found["ratio"].unique())
    rows = []
    for name, of in found.groupby("ranking", sort=False):
        at = {row["ratio"]: _value(row, "value") for _, row in of.iterrows()}
        rows.append((str(name), *(at.get(ratio) for ratio in ratios)))
    return make_table(["Ranking", *(f"without {percent(float(r))}" for r in ratios)], rows)


def _value(row: Any, column: str) -> str:
    """A number with its interval, where there is one."""
    low, high = row.get("ci_low"), row.get("ci_high")
    interval = f" [{number(low)}, {number(high)}]" if pd.notna(low) and pd.notna(high) else ""
    interval += " over draws" if interval and row.get("interval_over") == "draws" else ""
    value = float(row[column])
    # Random's own area is a sum of rounding errors.
    return f"{number(0.0 if abs(value) < ROUNDING else value)}{interval}"


def _values(curves: pd.DataFrame) -> Table | None:
    """Rankings × ratios, draws averaged; None without a row."""
    if curves.empty:
        return None
    curves = mark_leaks(curves)
    wide = curves.pivot_table(index="ranking", columns="ratio", values="value", aggfunc="mean")
    wide = wide.reindex([r for r in dict.fromkeys(curves["ranking"]) if r in wide.index])
    rows = [
        (str(name), *map(float, row)) for name, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return make_table(["Ranking", *(percent(float(ratio)) for ratio in wide.columns)], rows)
