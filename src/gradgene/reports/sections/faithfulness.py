"""Faithfulness: a row a measure, a column a method."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from gradgene.evaluation import MEASURES
from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = ["faithfulness_note", "faithfulness_table"]


def faithfulness_table(run: RunFiles) -> Table | None:
    """Every measure of every method with its interval, what it asks and whose it is."""
    found = run.faithfulness
    if found is None or found.empty:
        return None
    methods = [*dict.fromkeys(found["method"])]
    texts = {(r["method"], r["measure"]): _text(r) for r in found.to_dict("records")}
    present = set(found["measure"])
    rows = [
        (
            f"{measure.title} {measure.arrow}",
            *(texts.get((method, name)) for method in methods),
            measure.asks,
            measure.source,
        )
        for name, measure in MEASURES.items()
        if name in present
    ]
    return make_table(["Measure", *map(str, methods), "Asks", "Source"], rows)


def faithfulness_note(run: RunFiles) -> str | None:
    """Of how many pairs the measures are, and what their intervals are over."""
    found = run.faithfulness
    if found is None or found.empty:
        return None
    sampled = found[found["interval_over"] != ""]
    rows = sampled if len(sampled) else found
    most = rows.sort_values("n_pairs", ascending=False, kind="stable").iloc[0]
    over = "donors"
    if most["interval_over"] != "donors":
        n_donors = int(most["n_donors"])
        of = f" of {n_donors} donor{'s' if n_donors > 1 else ''}" if n_donors else ""
        over = f"input cells{of}, which says how much the draw of pairs matters and no more"
    searched = rows[rows["measure"] == "aopc_normalised"]
    only = f", normalised AOPC of {number(int(searched['n_pairs'].max()))}" if len(searched) else ""
    return (
        f"Of {number(int(most['n_pairs']))} held-out pairs{only}; relative deltas of all. "
        f"In brackets 95 % intervals over {over}."
    )


def _text(row: Mapping[Hashable, Any]) -> str:
    low, high = row["ci_low"], row["ci_high"]
    value = number(row["value"])
    return value if pd.isna(low) else f"{value} ({number(low)} to {number(high)})"
