"""Figures of pruning: what a model still knows as genes are removed, ranking by ranking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradgene.errors import OutputError, closest
from gradgene.plotting.palette import (
    CONTROLS,
    METRIC_NAMES,
    ORDER_NAMES,
    blank_figure,
    need,
    ranking_styles,
    styled,
)
from gradgene.plotting.pruning_lines import (
    MARKER_SIZE,
    band_handles,
    chance_line,
    name_lines,
    pruning_lines,
    ratio_axis,
)

__all__ = [
    "ARM_NAMES",
    "PAPER_METRICS",
    "mark_leaks",
    "pruning_curves",
    "pruning_grid",
    "pruning_orders",
]

#: The cells that a curve is about, in words.
ARM_NAMES = {"input": "Input cells", "baseline": "Baseline cells", "both": "Cells of both labels"}
#: The published figures' metrics, in their order.
PAPER_METRICS = ("accuracy", "f1", "recall", "precision")
#: What marks a ranking that was made on the pairs it is judged on.
LEAKS = " (leaks)"
LEAKING_TITLE = " (per-pair ranking: leaks the label)"
_STRETCHED = ", stretched axis"


@styled
def pruning_curves(
    curves: pd.DataFrame,
    order: str,
    arm: str = "both",
    metric: str = "balanced_accuracy",
    *,
    chance: float | None = None,
    main: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw how the model's performance changes as genes are removed, one line for each ranking.

    Parameters
    ----------
    curves
        Rows of `curves.parquet`: `ranking, order, ratio, arm, metric, value`, and optionally
        `draw`, `ci_low`, `ci_high`, `rank_source`. Several draws of one ranking (`random`) become
        their mean with a band from the lowest to the highest draw. Intervals are drawn as bands:
        all of them for up to four rankings, only the main one's and random ones' for more; the
        figure says what they are.
    order
        `lowest_first` or `highest_first`.
    arm, metric
        Which rows to draw.
    chance
        Value of the metric for guessing, drawn dotted.
    main
        The ranking the run is about, see `ranking_styles`.
    title
        None for the order in words.

    Returns
    -------
    Figure
        Horizontal axis: percent of the gene panel removed, stretched where ratios lie too close
        together to be told apart. A ranking made per pair is marked as leaking (`mark_leaks`).

    Raises
    ------
    OutputError
        If a column is missing or no row has this order, arm and metric.
    """
    chosen, main = _one_curve_set(curves, order, arm, metric), _marked(main, curves)
    figure = blank_figure(8.4, 4.4)
    ax = figure.subplots()
    styles = ranking_styles(list(dict.fromkeys(chosen["ranking"])), main)
    ends = pruning_lines(ax, chosen, styles)
    if chance is not None:
        chance_line(ax, chance)
    stretched = ratio_axis(ax, order, chosen, room=0.055)
    ax.set_title(title or _title(order, curves))
    bands = "; ".join(str(handle.get_label()) for handle in band_handles(chosen, styles))
    ax.set_xlabel(_axis(curves) + (_STRETCHED if stretched else "") + (bands and f"\n{bands}"))
    ax.set_ylabel(METRIC_NAMES.get(metric, metric))
    name_lines(figure, ax, ends, styles)
    return figure


@styled
def pruning_grid(
    curves: pd.DataFrame,
    order: str,
    metrics: Sequence[str] = PAPER_METRICS,
    arms: Sequence[str] = ("input", "baseline"),
    *,
    main: str | None = None,
    title: str | None = None,
) -> Figure:
    """Draw small multiples, a row for each metric and a column for each arm.

    With the defaults this is the published study's figure for one disease and one order.

    Parameters
    ----------
    curves, order, main
        As for `pruning_curves`.
    metrics, arms
        Rows and columns; those of which nothing was measured are left out.
    title
        What stands before the order in words, such as the name of the data.

    Returns
    -------
    Figure
        Panels of a row share their vertical axis, 0 to 1 where all values lie there. An arm has
        one true class, so its recall equals its accuracy, and its precision is 1 wherever any of
        its cells is named right.

    Raises
    ------
    OutputError
        If a column is missing or no row has this order and any of these arms and metrics.
    """
    need(curves, ["arm", "metric", "order"], "pruning curves")
    there = curves[curves["order"] == order]
    rows = [m for m in metrics if (there["metric"] == m).any()] or list(metrics[:1])
    columns = [a for a in arms if (there["arm"] == a).any()] or list(arms[:1])
    panels = {(m, a): _one_curve_set(curves, order, a, m) for m in rows for a in columns}
    main = _marked(main, curves)
    styles = _styles_of(panels.values(), main)
    figure = blank_figure(4.2 * len(columns) + 0.4, 2.25 * len(rows) + 1.0)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey="row")
    ends: dict[str, Any] = {}
    stretched = False
    for (metric, arm), chosen in panels.items():
        i, j = rows.index(metric), columns.index(arm)
        ends |= pruning_lines(axes[i, j], chosen, styles)
        stretched = ratio_axis(axes[i, j], order, chosen, room=0.09)
        if i == 0:
            axes[i, j].set_title(ARM_NAMES.get(arm, arm))
        if j == 0:
            axes[i, j].set_ylabel(METRIC_NAMES.get(metric, metric))
            if there.loc[there["metric"] == metric, "value"].dropna().between(0, 1).all():
                axes[i, j].set_ylim(-0.03, 1.04)
    figure.suptitle(_title(order, curves, title), x=0.01, ha="left", fontweight="bold", fontsize=12)
    for ax in axes[-1]:
        ax.set_xlabel(_axis(curves) + (_STRETCHED if stretched else ""))
    _legend(figure, ends, styles, pd.concat(panels.values()))
    return figure


@styled
def pruning_orders(
    curves: pd.DataFrame,
    arm: str = "both",
    metric: str = "balanced_accuracy",
    *,
    chance: float | None = None,
    main: str | None = None,
    close_up: float | None = None,
) -> Figure:
    """Draw both orders of removal side by side, one line for each ranking in both.

    Parameters
    ----------
    curves, arm, metric, chance, main
        As for `pruning_curves`; an order of which nothing was measured is left out.
    close_up
        A value of the metric: where there are both orders, the first one again from there up,
        under itself and beside the legend.

    Returns
    -------
    Figure

    Raises
    ------
    OutputError
        If a column is missing or no row has this arm and metric.
    """
    need(curves, ["order"], "pruning curves")
    orders = [o for o in ORDER_NAMES if (curves["order"] == o).any()] or list(ORDER_NAMES)
    panels = {order: _one_curve_set(curves, order, arm, metric) for order in orders}
    styles = _styles_of(panels.values(), _marked(main, curves))
    rows = 1 if close_up is None or len(panels) == 1 else 2
    figure = blank_figure(5.2 * len(panels) + 0.4, 4.6 if rows == 1 else 7.6)
    grid = figure.add_gridspec(rows, len(panels))
    axes = [figure.add_subplot(grid[0, 0])]
    axes += [figure.add_subplot(grid[0, j], sharey=axes[0]) for j in range(1, len(panels))]
    ends: dict[str, Any] = {}
    for ax, (order, chosen) in zip(axes, panels.items(), strict=True):
        ends |= pruning_lines(ax, chosen, styles)
        if chance is not None:
            chance_line(ax, chance)
        stretched = ratio_axis(ax, order, chosen, room=0.09)
        ax.set_title(_title(order, curves if len(panels) == 1 else curves.iloc[:0]))
        ax.set_xlabel(_axis(curves) + (_STRETCHED if stretched else ""))
    axes[0].set_ylabel(METRIC_NAMES.get(metric, metric))
    if len(panels) > 1 and _leaks(curves):
        figure.suptitle(LEAKING_TITLE.strip(" ()").capitalize(), fontweight="bold", fontsize=12)
    everything = pd.concat(panels.values())
    if close_up is None or len(panels) == 1:
        _legend(figure, ends, styles, everything)
        return figure
    ax = figure.add_subplot(grid[1, 0])
    _close_up(ax, *next(iter(panels.items())), styles, close_up)
    ax.set(xlabel=axes[0].get_xlabel(), ylabel=axes[0].get_ylabel())
    _legend(figure, ends, styles, everything, figure.add_subplot(grid[1, -1]))
    return figure


def _close_up(
    ax: Axes, order: str, chosen: pd.DataFrame, styles: dict[str, dict[str, Any]], lowest: float
) -> None:
    """The lines of one order again, from `lowest` up."""
    pruning_lines(ax, chosen, styles)
    ratio_axis(ax, order, chosen, room=0.09)
    highest = float(chosen.groupby(["ranking", "ratio"])["value"].mean().max())
    ax.set_ylim(lowest, highest + 0.08 * (highest - lowest))
    ax.set_title(f"{_title(order, chosen.iloc[:0])}, from {lowest:g} up")


def mark_leaks(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves with "(leaks)" behind each ranking that saw the pairs it is judged on.

    Those are the rows of `rank_source` "per_pair", but for controls, which no pair makes.
    """
    if not _leaks(curves):
        return curves
    leaking = (curves["rank_source"] == "per_pair") & ~curves["ranking"].isin((*CONTROLS, "table"))
    marked = curves["ranking"].where(~leaking, curves["ranking"].astype(str) + LEAKS)
    return curves.assign(ranking=marked)


def _axis(curves: pd.DataFrame) -> str:
    """What the shares are of: the panel, or where pairs are cut each pair's own genes."""
    return f"Genes removed (% of {'those of each pair' if _leaks(curves) else 'the panel'})"


def _leaks(curves: pd.DataFrame) -> bool:
    return "rank_source" in curves and bool((curves["rank_source"] == "per_pair").any())


def _marked(main: str | None, curves: pd.DataFrame) -> str | None:
    """The name that the main ranking has after `mark_leaks`, per pair if there is such a curve."""
    names = set(mark_leaks(curves)["ranking"])
    return f"{main}{LEAKS}" if f"{main}{LEAKS}" in names else main


def _title(order: str, curves: pd.DataFrame, before: str | None = None) -> str:
    title = ORDER_NAMES.get(order, order) + (LEAKING_TITLE if _leaks(curves) else "")
    return f"{before}: {title}" if before else title[:1].upper() + title[1:]


def _styles_of(panels: Iterable[pd.DataFrame], main: str | None) -> dict[str, dict[str, Any]]:
    names = dict.fromkeys(name for chosen in panels for name in chosen["ranking"])
    return ranking_styles(list(names), main)


def _legend(
    figure: Figure,
    ends: dict[str, Any],
    styles: dict[str, dict[str, Any]],
    drawn: pd.DataFrame,
    cell: Axes | None = None,
) -> None:
    """One legend for all panels, under them or in a free cell, the main ranking first."""
    order = sorted(ends, key=lambda name: -float(styles[name]["linewidth"]))
    lines = [Line2D([], [], markersize=MARKER_SIZE, **styles[name]) for name in order]
    bands = band_handles(drawn, styles)
    texts = [*(ends[name][2] for name in order), *(str(band.get_label()) for band in bands)]
    handles: list[Any] = [*lines, *bands]
    if cell is not None:
        cell.set_axis_off()
        cell.legend(handles, texts, loc="center left", fontsize=10.5, handlelength=3.2)
        return
    # In inches: a line, and about so much a letter at this size.
    wide = 0.65 + 0.075 * max(map(len, texts))
    figure.legend(
        handles,
        texts,
        loc="outside lower center",
        ncols=max(1, min(len(texts), int(figure.get_figwidth() / wide))),
        fontsize=9.5,
        handlelength=3.2,
        columnspacing=1.2,
    )


def _one_curve_set(curves: pd.DataFrame, order: str, arm: str, metric: str) -> pd.DataFrame:
    """The rows of one order, arm and metric that have a value; an `OutputError` if none."""
    need(curves, ["ranking", "order", "ratio", "arm", "metric", "value"], "pruning curves")
    chosen = curves[(curves["arm"] == arm) & (curves["metric"] == metric)]
    orders = sorted(set(map(str, chosen["order"])))
    chosen = chosen[chosen["order"] == order].dropna(subset=["value"])
    if chosen.empty:
        raise OutputError(
            f"no curve of order {order!r}, arm {arm!r} and metric {metric!r}",
            where="pruning curves",
            found=closest(order, orders) or "no such arm and metric",
        )
    return mark_leaks(chosen)
