"""What the pruning measured: the values of every curve and the areas between them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gradgene.plotting import METRIC_NAMES, ORDER_NAMES
from gradgene.reports.figures import pick_curves
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = ["area_table", "pruning_tables"]


def area_table(run: RunFiles) -> Table | None:
    """Area between each ranking's pruning curve and random's, for the arm and metric shown."""
    picked, summary = pick_curves(run), run.summary
    if summary is None or summary.empty:
        return None
    if picked is not None:
        for column, value in (("arm", picked[1]), ("metric", picked[2])):
            if column in summary:
                summary = summary[summary[column] == value]
    orders = [order for order in ORDER_NAMES if (summary["order"] == order).any()]
    rows = []
    for ranking in dict.fromkeys(summary["ranking"]):
        of = summary[summary["ranking"] == ranking].set_index("order")
        rows.append(
            (ranking, *(_area(of.loc[order]) if order in of.index else None for order in orders))
        )
    return make_table(["Ranking", *(ORDER_NAMES[order].capitalize() for order in orders)], rows)


def _area(row: Any) -> str:
    row = row.iloc[0] if isinstance(row, pd.DataFrame) else row
    low, high = row.get("ci_low"), row.get("ci_high")
    interval = f" [{number(low)}, {number(high)}]" if pd.notna(low) and pd.notna(high) else ""
    return f"{number(float(row['area']))}{interval}"


def pruning_tables(run: RunFiles) -> dict[str, tuple[str, Table]]:
    """Order → (metric's name, values of every ranking at every ratio, draws averaged)."""
    picked = pick_curves(run)
    found = {}
    for order in ORDER_NAMES if picked is not None else ():
        assert picked is not None
        curves, _, metric = picked
        curves = curves[curves["order"] == order]
        if curves.empty:
            continue
        wide = curves.pivot_table(index="ranking", columns="ratio", values="value", aggfunc="mean")
        wide = wide.reindex([r for r in dict.fromkeys(curves["ranking"]) if r in wide.index])
        rows = [
            (str(name), *map(float, row))
            for name, row in zip(wide.index, wide.to_numpy(), strict=True)
        ]
        table = make_table(["Ranking", *(percent(float(ratio)) for ratio in wide.columns)], rows)
        if table is not None:
            found[order] = (METRIC_NAMES.get(metric, metric), table)
    return found
