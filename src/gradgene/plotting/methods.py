"""Figures of how attribution methods compare, and of what memory one of them takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradgene.errors import OutputError
from gradgene.plotting.palette import COMPARED, PALETTE, blank_figure, finite, need, styled

__all__ = ["memory_by_length", "method_comparison"]

#: What a relative delta of zero is drawn as: below anything that float32 can do.
ZERO_DELTA = 1e-9


@styled
def method_comparison(table: pd.DataFrame) -> Figure:
    """Draw time, completeness and faithfulness of methods side by side, the most faithful on top.

    Parameters
    ----------
    table
        A row a method: `method`, `seconds_per_pair`, `delta_median` and `delta_max` (relative
        deltas) and `gap` (swap-gap), `gap_low`, `gap_high` (its interval, which may be missing).
        The method `random` gives the line of chance; those whose name begins with `captum_` are
        drawn grey.

    Returns
    -------
    Figure
        Three panels that share their rows; the first two have logarithmic axes.

    Raises
    ------
    OutputError
        If a column is missing or there is no finite swap-gap.
    """
    columns = "method seconds_per_pair delta_median delta_max gap gap_low gap_high"
    need(table, columns.split(), "methods")
    finite(table["gap"], "methods")
    rows = table.sort_values("gap", ascending=True, kind="stable").reset_index(drop=True)
    place = np.arange(len(rows))
    theirs = rows["method"].str.startswith("captum_") | (rows["method"] == "random")
    colours = [PALETTE["random"] if grey else PALETTE["main"] for grey in theirs]
    figure = blank_figure(9.6, 1.5 + 0.3 * len(rows))
    gap_ax, delta_ax, time_ax = figure.subplots(1, 3, sharey=True, width_ratios=(1.25, 1, 1))
    _gaps(gap_ax, rows, place, colours)
    worst, median = (rows[c].clip(lower=ZERO_DELTA) for c in ("delta_max", "delta_median"))
    delta_ax.hlines(place, median, worst, color=colours, linewidth=1.4)
    delta_ax.scatter(worst, place, marker="|", s=60, color=colours, label="maximum")
    delta_ax.scatter(median, place, s=26, color=colours, zorder=3)
    delta_ax.set(xscale="log", title="Left unexplained")
    delta_ax.set_xlabel("Relative delta\n(dot: median, bar: maximum)")
    time_ax.scatter(rows["seconds_per_pair"], place, s=30, color=colours)
    time_ax.set(xscale="log", title="Time")
    # Whole decades, whose names never run into each other.
    logs = np.log10(rows["seconds_per_pair"])
    time_ax.set_xlim(10 ** np.floor(logs.min() - 0.05), 10 ** np.ceil(logs.max() + 0.05))
    time_ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    time_ax.xaxis.set_minor_formatter(NullFormatter())
    time_ax.set_xlabel("Seconds a pair,\nboth directions")
    gap_ax.set_yticks(place, rows["method"], parse_math=False)
    gap_ax.set_ylim(-0.6, len(rows) - 0.4)
    for ax in (delta_ax, time_ax):
        ax.tick_params(axis="y", length=0)
    return figure


def _gaps(ax: Axes, rows: pd.DataFrame, place: np.ndarray, colours: list[str]) -> None:
    """Bars of the swap-gap with their intervals, and a line where random scores are."""
    ax.barh(place, rows["gap"], height=0.62, color=colours)
    ax.hlines(place, rows["gap_low"], rows["gap_high"], color=PALETTE["ink"], linewidth=1.1)
    ax.axvline(0, color=PALETTE["muted"], linewidth=0.9)
    chance = rows.loc[rows["method"] == "random", "gap"]
    if len(chance):
        ax.axvline(float(chance.iloc[0]), color=PALETTE["random"], linestyle="--", linewidth=1.1)
    ax.grid(axis="y", visible=False)
    ax.set(
        title="Faithfulness", xlabel="Swap-gap, 95 % interval\n(higher is better; dashed: random)"
    )


@styled
def memory_by_length(
    table: pd.DataFrame, coefficients: np.ndarray, full: tuple[int, int, float | None]
) -> Figure:
    """Draw the memory of `deeplift` against the number of genes, with the fitted lines.

    Parameters
    ----------
    table
        A row a run: `n_genes`, `n_layers` and `added_mb`.
    coefficients
        (3,) c of added_mb = c0 + genes (c1 + c2 layers).
    full
        Genes and layers that the lines are drawn to, and the MB of one run there (None: no run).

    Returns
    -------
    Figure

    Raises
    ------
    OutputError
        If a column is missing or there is no run.
    """
    need(table, ["n_genes", "n_layers", "added_mb"], "memory")
    if table.empty:
        raise OutputError("nothing to draw", where="memory", expected="at least one run")
    figure = blank_figure(6.4, 4.0)
    ax = figure.subplots()
    genes = np.array([0.0, max(int(table["n_genes"].max()), full[0])])
    depths = sorted({*table["n_layers"].astype(int), full[1]})
    for depth, colour in zip(depths, (PALETTE["main"], *COMPARED), strict=False):
        mine = table[table["n_layers"] == depth]
        style: dict[str, Any] = {"color": colour, "zorder": 3}
        line = (coefficients[0] + genes * (coefficients[1] + coefficients[2] * depth)) / 1024
        name = f"{depth} layers" + ("" if len(mine) else ", extrapolated")
        dashes = "-" if len(mine) else "--"
        ax.plot(genes, line, color=colour, linewidth=1.3, linestyle=dashes, label=name)
        ax.scatter(mine["n_genes"], mine["added_mb"] / 1024, s=34, **style)
        if full[2] is not None and depth == full[1]:
            ax.scatter([full[0]], [full[2] / 1024], marker="*", s=110, label="measured", **style)
    ax.set(
        title="Memory of deeplift by length",
        xlabel="Genes in the union of a pair",
        ylabel="Memory added by deeplift (GiB)",
    )
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_ylim(bottom=0)
    ax.set_xlim(left=0)
    ax.legend()
    return figure
