"""The figure of the best genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradgene.plotting.palette import PALETTE, blank_figure, finite, need, styled

__all__ = ["top_genes"]


@styled
def top_genes(frame: pd.DataFrame, n: int = 30) -> Figure:
    """Draw the highest-ranked genes as bars.

    Parameters
    ----------
    frame
        A gene table: `gene`, `score`, `rank`; optionally `ci_low` and `ci_high` (whiskers, drawn
        where neither is null), `direction` (`up`/`down`, or a number whose sign says it) and
        `flags` (words joined by `;`, or null). Rows without a rank are left out.
    n
        How many genes to draw at most.

    Returns
    -------
    Figure
        The best gene on top; bars of flagged genes are hatched, their flags written beside them.

    Raises
    ------
    OutputError
        If a needed column is missing or no gene has a rank.
    """
    need(frame, ["gene", "score", "rank"], "gene table")
    rows = frame.dropna(subset=["rank", "score"]).sort_values("rank").head(n)
    finite(rows["score"], "gene table")
    direction = (
        rows["direction"] if "direction" in rows else pd.Series(None, rows.index, dtype=object)
    ).map(_direction)
    figure = blank_figure(6.4, 1.3 + 0.225 * len(rows))
    ax = figure.subplots()
    place = np.arange(len(rows))
    bars = ax.barh(place, rows["score"], height=0.72, color=direction.map(PALETTE))
    if {"ci_low", "ci_high"} <= set(rows.columns):
        low, high = (rows[c].astype(float).to_numpy() for c in ("ci_low", "ci_high"))
        ax.hlines(place, low, high, color=PALETTE["ink"], linewidth=1.1)
    ax.set_yticks(place, rows["gene"].astype(str), parse_math=False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvline(0, color=PALETTE["muted"], linewidth=0.9)
    ax.grid(axis="y", visible=False)
    names = {"up": "higher in the input cells", "down": "lower in the input cells"}
    names["unknown"] = "direction not known"
    for key, text in names.items():
        if (direction == key).any() and not (direction == "unknown").all():
            ax.barh(0, 0, color=PALETTE[key], label=text)
    if "flags" in rows:
        _mark_flags(ax, bars.patches, rows["flags"].tolist())
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right" if rows["score"].mean() > 0 else "lower left", fontsize=9.5)
    ax.set(title=f"The {len(rows)} highest-ranked genes")
    ax.set_xlabel("Gene score (units of the model output)")
    return figure


def _mark_flags(ax: Axes, bars: Sequence[Rectangle], flags: Sequence[Any]) -> None:
    """Hatch the bars of flagged genes and write the flags in a column right of the axes."""
    flagged = [(i, flag) for i, flag in enumerate(flags) if isinstance(flag, str) and flag]
    for i, flag in flagged:
        bars[i].set(hatch="////", edgecolor="white", linewidth=0.0)
        ax.get_yticklabels()[i].set_color(PALETTE["muted"])
        ax.annotate(
            flag.replace("_", " ").replace(";", ", "),
            (1.0, i),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=PALETTE["muted"],
            parse_math=False,
        )
    if flagged:
        hatched: dict[str, Any] = {"hatch": "////", "edgecolor": "white", "linewidth": 0.0}
        ax.barh(
            0, 0, color=PALETTE["unknown"], label="technical flag (named on the right)", **hatched
        )


def _direction(value: Any) -> str:
    """`up`, `down` or `unknown` for a word or a signed number."""
    if isinstance(value, str):
        return value if value in ("up", "down") else "unknown"
    if value is None or pd.isna(value) or value == 0:
        return "unknown"
    return "up" if value > 0 else "down"
