"""Figures of curves: training, pruning, and how completely scores add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from gradgene.errors import OutputError, closest
from gradgene.plotting.palette import (
    COMPARED,
    METRIC_NAMES,
    ORDER_NAMES,
    PALETTE,
    blank_figure,
    finite,
    need,
    ranking_styles,
    styled,
)

__all__ = ["completeness", "pruning_curves", "training_curves"]

_Map = Callable[[np.ndarray], np.ndarray]


@styled
def training_curves(history: pd.DataFrame) -> Figure:
    """Draw loss and validation accuracy over epochs.

    Parameters
    ----------
    history
        One row per log entry with `epoch` and any of `train/loss`, `val/loss` (nats) and
        `val/balanced_accuracy` (0–1). Empty cells are skipped, as loggers write sparse rows; of
        several values in one epoch the last is drawn.

    Returns
    -------
    Figure
        One panel for loss and one for accuracy, those for which there are values.

    Raises
    ------
    OutputError
        If `epoch` or every one of the metrics is missing.
    """
    need(history, ["epoch"], "training history")
    lines = {
        "train/loss": ("training", COMPARED[0], "o"),
        "val/loss": ("validation", PALETTE["main"], "s"),
        "val/balanced_accuracy": ("validation", PALETTE["main"], "s"),
    }
    found = [name for name in lines if name in history and history[name].notna().any()]
    panels = [
        (title, label, names)
        for title, label, names in (
            ("Loss", "Cross entropy (nats)", [n for n in found if n.endswith("/loss")]),
            ("Validation accuracy", "Balanced accuracy", [n for n in found if "accuracy" in n]),
        )
        if names
    ]
    if not panels:
        raise OutputError("no known metric", where="training history", expected=", ".join(lines))
    figure = blank_figure(4.4 * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, label, names) in zip(axes, panels, strict=True):
        for name in names:
            text, colour, marker = lines[name]
            series = history.dropna(subset=[name]).groupby("epoch")[name].last()
            ax.plot(series.index, series, color=colour, marker=marker, markersize=4, label=text)
        ax.set(title=title, xlabel="Epoch", ylabel=label)
        # A run of one epoch would otherwise get fractional epochs on its axis.
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(names) > 1:
            ax.legend()
    return figure


@styled
def pruning_curves(
    curves: pd.DataFrame,
    order: str,
    arm: str = "both",
    metric: str = "balanced_accuracy",
    *,
    chance: float | None = None,
    main: str | None = None,
) -> Figure:
    """Draw how the model's performance changes as genes are removed, one line for each ranking.

    Parameters
    ----------
    curves
        Rows of `curves.parquet`: `ranking, order, ratio, arm, metric, value`, and optionally
        `draw`, `ci_low`, `ci_high`, `rank_source`. Several draws of one ranking (`random`) become
        their mean with a band from the lowest to the highest draw. Intervals are drawn as bands:
        all of them for up to four rankings, only the main one's and random's for more.
    order
        `lowest_first` or `highest_first`.
    arm, metric
        Which rows to draw.
    chance
        Value of the metric for guessing, drawn dotted.
    main
        The ranking the run is about, see `ranking_styles`.

    Returns
    -------
    Figure
        Horizontal axis: percent of the gene panel removed, stretched where ratios lie too close
        together to be told apart. A ranking made per pair is marked as leaking.

    Raises
    ------
    OutputError
        If a column is missing or no row has this order, arm and metric.
    """
    chosen = _one_curve_set(curves, order, arm, metric)
    figure = blank_figure(8.4, 4.4)
    ax = figure.subplots()
    rankings = list(dict.fromkeys(chosen["ranking"]))
    styles = ranking_styles(rankings, main)
    bold = max(style["linewidth"] for style in styles.values())
    ends = {}
    for name in rankings:
        # Bands of many rankings would cover each other: then only those that are compared most.
        band = len(rankings) <= 4 or name == "random" or styles[name]["linewidth"] == bold
        ends[name] = _pruning_line(ax, name, chosen, styles[name], band)
    if chance is not None:
        _chance_line(ax, chance)
    stretched = _ratio_axis(ax, order, np.unique(chosen["ratio"].to_numpy(dtype=float)))
    title = ORDER_NAMES.get(order, order)
    if "rank_source" in chosen and (chosen["rank_source"] == "per_pair").any():
        title += " (per-pair ranking: leaks the label)"
    ax.set_title(title[:1].upper() + title[1:])
    ax.set_xlabel("Genes removed (% of the panel)" + (", stretched axis" if stretched else ""))
    ax.set_ylabel(METRIC_NAMES.get(metric, metric))
    _name_lines(figure, ax, ends, styles)
    return figure


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
    return chosen


def _chance_line(ax: Axes, chance: float) -> None:
    """A dotted line at the value that guessing gives."""
    ax.axhline(chance, color=PALETTE["muted"], linestyle=":", linewidth=1.2, gid="chance")
    ax.annotate(
        f"chance {chance:.2g}",
        (0, chance),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=9,
        color=PALETTE["muted"],
    )


def _pruning_line(
    ax: Axes, name: str, curves: pd.DataFrame, style: dict[str, Any], band: bool
) -> tuple[float, float, str]:
    """Draw one ranking's line and band; give its last point and the name to write there."""
    rows = curves[curves["ranking"] == name]
    by_ratio = rows.groupby("ratio")
    middle = by_ratio["value"].mean()
    draws = rows["draw"].nunique() if "draw" in rows else 1
    ax.plot(middle.index, middle, marker="o", markersize=3.5, gid=f"ranking:{name}", **style)
    low = high = None
    if draws > 1:
        low, high = by_ratio["value"].min(), by_ratio["value"].max()
    elif {"ci_low", "ci_high"} <= set(rows.columns):
        low, high = (by_ratio[c].mean().astype(float) for c in ("ci_low", "ci_high"))
    if band and low is not None and high is not None and low.notna().any():
        ax.fill_between(
            middle.index, low, high, color=style["color"], alpha=0.13, linewidth=0, zorder=1.5
        )
    text = f"{name} (mean of {draws})" if draws > 1 else name
    return float(middle.index[-1]), float(middle.iloc[-1]), text


def _ratio_axis(ax: Axes, order: str, ratios: np.ndarray) -> bool:
    """Set up the axis of removed shares; true if it had to be stretched to keep ratios apart."""
    span = float(ratios[-1] - ratios[0])
    stretch = len(ratios) > 2 and float(np.diff(ratios).min()) < 0.04 * span
    there: _Map = _identity
    back: _Map = _identity
    if stretch and order == "lowest_first":
        # What matters happens when few genes are left: the logarithm of the share kept.
        there, back = _log_kept, _from_log_kept
    elif stretch:
        there, back = _log_removed, _from_log_removed
    ax.set_xscale("function", functions=(there, back))
    places = there(ratios)
    width = float(places[-1] - places[0]) or 1.0
    room = 0.055 * width
    margins = np.array([places[0] - 0.03 * width, places[-1] + 0.03 * width])
    ax.set_xlim(*(float(x) for x in back(margins)))
    shown: list[int] = []
    for i in range(len(ratios))[:: -1 if order == "lowest_first" else 1]:
        if not shown or abs(places[i] - places[shown[-1]]) >= room:
            shown.append(i)
    ax.xaxis.set_major_locator(FixedLocator([float(ratios[i]) for i in sorted(shown)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}"))
    return bool(stretch)


def _identity(ratio: np.ndarray) -> np.ndarray:
    return np.asarray(ratio, dtype=float)


def _log_kept(ratio: np.ndarray) -> np.ndarray:
    return np.asarray(-np.log10(1 - np.clip(ratio, -1.0, 0.9995)))


def _from_log_kept(place: np.ndarray) -> np.ndarray:
    return np.asarray(1 - 10.0 ** -np.asarray(place, dtype=float))


def _log_removed(ratio: np.ndarray) -> np.ndarray:
    return np.asarray(np.log10(1 + np.clip(ratio, -0.019, None) / 0.02))


def _from_log_removed(place: np.ndarray) -> np.ndarray:
    return np.asarray(0.02 * (10.0 ** np.asarray(place, dtype=float) - 1))


def _name_lines(
    figure: Figure,
    ax: Axes,
    ends: dict[str, tuple[float, float, str]],
    styles: dict[str, dict[str, Any]],
) -> None:
    """Write each line's name beside its end, moved up or down just enough not to touch another."""
    figure.draw_without_rendering()
    size = 9.5
    gap = 1.28 * size * figure.dpi / 72 / ax.get_window_extent().height
    low, high = ax.get_ylim()
    names = sorted(ends, key=lambda name: ends[name][1])
    wanted = [(ends[name][1] - low) / (high - low) for name in names]
    for name, place in zip(names, spread(wanted, gap), strict=True):
        x, y, text = ends[name]
        ax.annotate(
            text,
            (x, y),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            ha="left",
            fontsize=size,
            # The palette's own tones are made for areas; as text they would be too pale to read.
            color=tuple(0.72 * c for c in to_rgb(styles[name]["color"])),
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": styles[name]["color"],
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 1,
                "relpos": (0, 0.5),
                "shrinkB": 3,
            },
        )


def spread(wanted: list[float], gap: float) -> list[float]:
    """Move ascending positions as little as possible so that neighbours are `gap` apart.

    Positions that would collide become one block centred on the mean of where they want to be;
    the whole is then shifted into 0–1 as far as it fits.
    """
    blocks: list[tuple[float, int]] = []
    for i, place in enumerate(wanted):
        blocks.append((place - i * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [((a * n + b * m) / (n + m), n + m)]
    room = 1 - (len(wanted) - 1) * gap
    flat = [min(max(centre, 0.0), max(room, 0.0)) for centre, count in blocks for _ in range(count)]
    return [place + i * gap for i, place in enumerate(flat)]


@styled
def completeness(pairs: pd.DataFrame) -> Figure:
    """Draw, for every size of the completeness error, the share of pairs below it.

    Parameters
    ----------
    pairs
        Pair table with `relative_delta`: |Σ scores − (f_input − f_baseline)| over the larger of
        |f_input − f_baseline| and 1 % of Σ|scores|; no unit. Null means not computed.

    Returns
    -------
    Figure
        Logarithmic axis; exact zeros are drawn at its left end.

    Raises
    ------
    OutputError
        If the column is missing or holds no number.
    """
    need(pairs, ["relative_delta"], "pair table")
    delta = np.sort(np.abs(finite(pairs["relative_delta"], "relative_delta of the pair table")))
    positive = delta[delta > 0]
    floor = float(positive[0]) / 3 if positive.size else 1e-16
    figure = blank_figure(6.4, 3.4)
    ax = figure.subplots()
    share = np.arange(1, len(delta) + 1) / len(delta)
    ax.step(np.maximum(delta, floor), 100 * share, where="post", color=PALETTE["main"])
    ax.set_xscale("log")
    ax.set_ylim(0, 104)
    # Room on the right, where the curve is never below the labels.
    ax.set_xlim(right=max(float(delta[-1]), floor) * (float(delta[-1] / floor) + 1) ** 0.4)
    for quantile, name, height in ((50, "median", 22), (99, "99th percentile", 8)):
        value = float(np.percentile(delta, quantile))
        place = max(value, floor)
        ax.axvline(place, color=PALETTE["ink"], linestyle="--", linewidth=1.0, gid=f"p{quantile}")
        ax.annotate(
            f"{name} {value:.2g}",
            (place, height),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=9.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
    ax.set_title(f"Completeness over {len(delta):,} pairs")
    ax.set_xlabel("Relative delta: share of the output change not attributed (log scale)")
    ax.set_ylabel("Pairs at or below (%)")
    return figure
