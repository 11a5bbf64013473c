"""Figures of curves: training, and how completely scores add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradgene.errors import OutputError
from gradgene.plotting.palette import COMPARED, PALETTE, blank_figure, finite, need, styled

__all__ = ["completeness", "training_curves"]


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
