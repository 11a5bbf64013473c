"""The pruning curves as plain values, for the report to draw them where a reader can ask them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradgene import plotting
from gradgene.reports.figures import legible, pick_curves
from gradgene.reports.run_files import RunFiles

__all__ = ["curve_charts"]

#: What may be chosen beside the main curves: (arm, metric).
MEASURES = (
    ("both", "balanced_accuracy"),
    ("both", "auroc"),
    ("both", "probability"),
    ("both", "probability_drop"),
    ("input", "accuracy"),
    ("input", "f1"),
    ("baseline", "accuracy"),
    ("baseline", "f1"),
)
#: Markers in turn, so that curves differ in more than their colours.
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "down")


def curve_charts(run: RunFiles) -> dict[str, Any] | None:
    """Every pruning curve with its intervals, as JSON can hold it; None without curves.

    Returns
    -------
    dict or None
        `styles`: by ranking `colour`, `dash` (lengths at a line width of 1), `width`, `marker` and
        `shown`, whether it is drawn at first: the same colours and dashes as in the figures.
        `charts`: one for each order with `order`, `title`, `axis`, `ratios` (rising), `places` (of
        the ratios, 0 left to 1 right), `ticks` (positions of the ratios to name) and `measures`,
        the main one first: `name`, `chance` (or null) and `curves`, by ranking a list of points
        `[ratio's position, value, low, high, cells, donors, draws]`. Low and high are the interval
        over donors, or where there are several draws the lowest and highest of them; null where
        there is neither.
    """
    picked = pick_curves(run)
    if picked is None or run.curves is None:
        return None
    curves, arm, metric = picked
    kinds = dict.fromkeys([(arm, metric), *MEASURES])
    at = list(zip(run.curves["arm"], run.curves["metric"], strict=True))
    all_curves = run.curves[[kind in kinds for kind in at]]
    all_curves = plotting.mark_leaks(all_curves).dropna(subset=["value"])
    shown = plotting.mark_leaks(legible(curves, run.main_ranking, run.baseline or "cell_state"))
    chance = float((run.metrics or {}).get("pruning/chance", 0.5))
    charts = [
        _chart(of, order, list(kinds), chance)
        for order in plotting.ORDER_NAMES
        if len(of := all_curves[all_curves["order"] == order])
    ]
    names = [str(name) for name in dict.fromkeys(all_curves["ranking"])]
    main = next((n for n in names if n.removesuffix(" (leaks)") == run.main_ranking), None)
    return {"styles": _styles(names, main, set(shown["ranking"])), "charts": charts}


def _chart(
    curves: pd.DataFrame, order: str, kinds: Sequence[tuple[str, str]], chance: float
) -> dict[str, Any]:
    ratios = np.unique(curves["ratio"].to_numpy(dtype=float))
    places, ticks, stretched = plotting.ratio_places(ratios, order, room=0.055)
    leaks = "rank_source" in curves and bool((curves["rank_source"] == "per_pair").any())
    of = "those of each pair" if leaks else "the panel"
    title = plotting.ORDER_NAMES[order].capitalize()
    return {
        "order": order,
        "title": title + (" (per-pair ranking: leaks the label)" if leaks else ""),
        "axis": f"Genes removed (% of {of})" + (", stretched axis" if stretched else ""),
        "ratios": [round(float(ratio), 6) for ratio in ratios],
        "places": [round(float(place), 5) for place in places],
        "ticks": ticks,
        "measures": [
            {
                "name": _name(arm, metric),
                "chance": chance if metric == "balanced_accuracy" else None,
                "curves": _curves(mine, ratios),
            }
            for arm, metric in kinds
            if len(mine := curves[(curves["arm"] == arm) & (curves["metric"] == metric)])
        ],
    }


def _name(arm: str, metric: str) -> str:
    name = plotting.METRIC_NAMES.get(metric, metric.replace("_", " "))
    cells = "" if arm == "both" else f", {plotting.ARM_NAMES.get(arm, arm).lower()}"
    return name + cells


def _curves(rows: pd.DataFrame, ratios: np.ndarray) -> dict[str, list[list[Any]]]:
    place = {float(ratio): i for i, ratio in enumerate(ratios)}
    found: dict[str, list[list[Any]]] = {}
    for (ranking, ratio), of in rows.groupby(["ranking", "ratio"], sort=False):
        point = [place[float(str(ratio))], *_point(of)]
        found.setdefault(str(ranking), []).append(point)
    return {name: sorted(points) for name, points in found.items()}


def _point(of: pd.DataFrame) -> list[Any]:
    """Value, low, high, cells, donors and draws of one ranking at one ratio."""
    draws = int(of["draw"].nunique()) if "draw" in of else 1
    low = high = None
    if draws > 1:
        low, high = float(of["value"].min()), float(of["value"].max())
    elif {"ci_low", "ci_high"} <= set(of.columns):
        low, high = float(of["ci_low"].mean()), float(of["ci_high"].mean())
    cells, donors = (of[c].iloc[0] if c in of else None for c in ("n_cells", "n_donors"))
    return [
        *map(_rounded, (float(of["value"].mean()), low, high)),
        *map(_count, (cells, donors)),
        draws,
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")


def _count(value: Hashable) -> int | None:
    return None if value is None or value != value else int(str(value).partition(".")[0])


def _styles(
    names: Sequence[str], main: str | None, shown: set[str]
) -> dict[str, Mapping[str, object]]:
    drawn = plotting.ranking_styles(names, main)
    styles: dict[str, Mapping[str, object]] = {}
    for i, name in enumerate(sorted(names, key=lambda n: -float(drawn[n]["linewidth"]))):
        style = drawn[name]
        dash = [] if style["linestyle"] == "-" else [*style["linestyle"][1]]
        styles[name] = {
            "colour": style["color"],
            "dash": dash,
            "width": style["linewidth"],
            "marker": MARKERS[i % len(MARKERS)],
            "shown": name in shown or name == main,
        }
    return styles
