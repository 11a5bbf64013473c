"""The figure of the sanity checks: what is left of a ranking as its model forgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradgene.plotting.palette import PALETTE, blank_figure, finite, need, styled

__all__ = ["sanity_checks"]

COLUMNS = ("check", "step", "depth", "draw", "spearman", "spearman_abs", "threshold")
#: Rows of the right panel: check, step, and what they are called.
OTHERS = (
    ("reference", "two halves", "two halves"),
    ("gene_shuffle", "same gene", "shuffled, by gene"),
    ("gene_shuffle", "same values", "shuffled, by values"),
    ("label_permutation", "permuted labels", "labels permuted"),
    ("label_relearning", "trained on permuted labels", "trained on permuted"),
)
SIGNED = {"color": PALETTE["main"], "marker": "o"}
MAGNITUDE = {"color": PALETTE["hvg"], "marker": "s"}
SLANTED: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}


@styled
def sanity_checks(table: pd.DataFrame) -> Figure:
    """Draw the rank correlation of every control with the trained model.

    Parameters
    ----------
    table
        `sanity.parquet`: `check, step, depth, draw, spearman, spearman_abs, threshold`.

    Returns
    -------
    Figure
        Left the cascade, a thin line a draw and a bold one of medians, from the trained model to
        one that is random throughout; the band is where a random model may end. Right the other
        controls, a point a draw; those that could not be made are left out.

    Raises
    ------
    OutputError
        If a column is missing or there is no correlation of a random model.
    """
    need(table, COLUMNS, "sanity")
    cascade = table[table["check"] == "randomisation"]
    finite(cascade["spearman"], "sanity")
    threshold = float(table["threshold"].iloc[0])
    figure = blank_figure(9.2, 4.2)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.35, 1))
    for ax in (left, right):
        ax.axhspan(-threshold, threshold, color="#F0F0F0", zorder=0, linewidth=0, gid="sane")
        ax.axhline(0, color=PALETTE["muted"], linewidth=0.9)
    _cascade(left, cascade)
    _others(right, table)
    left.set_ylim(-1.05, 1.05)
    left.set_ylabel("Rank correlation with the trained model")
    return figure


def _cascade(ax: Axes, cascade: pd.DataFrame) -> None:
    steps = cascade.sort_values("depth").drop_duplicates("depth")["step"].tolist()
    for column, style, name in (
        ("spearman_abs", MAGNITUDE, "magnitudes of the scores"),
        ("spearman", SIGNED, "scores"),
    ):
        wide = cascade.pivot_table(index="depth", columns="draw", values=column, dropna=False)
        lines = np.vstack([np.ones(wide.shape[1]), wide.to_numpy(dtype=float)])
        colour = style["color"]
        if lines.shape[1] > 1:
            ax.plot(range(len(lines)), lines, color=colour, alpha=0.35, linewidth=0.9)
        middle = [
            float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan
            for row in lines
        ]
        ax.plot(range(len(lines)), middle, label=name, linewidth=2.2, markersize=5, **style)  # type: ignore[arg-type]
    names = ["trained", *(f"+ {step}" for step in steps[:-1]), f"+ {steps[-1]} = all"]
    ax.set_xticks(range(len(names)), names, **SLANTED)
    ax.set(title="Weights drawn anew, from the head down")
    ax.legend(loc="lower left", fontsize=9)


def _others(ax: Axes, table: pd.DataFrame) -> None:
    places: list[int] = []
    names: list[str] = []
    for check, step, name in OTHERS:
        mine = table[(table["check"] == check) & (table["step"] == step)]
        if mine["spearman"].notna().sum() == 0:
            continue
        place = len(places)
        for column, shift, style in (
            ("spearman", -0.12, SIGNED),
            ("spearman_abs", 0.12, MAGNITUDE),
        ):
            known = mine[column].dropna()
            dots: dict[str, Any] = {"s": 30, "zorder": 3, "linewidths": 0, **style}
            ax.scatter(np.full(len(known), place + shift), known, **dots)
        places.append(place)
        names.append(name)
    ax.set_xticks(places, names, **SLANTED)
    ax.set_xlim(-0.6, max(len(places), 1) - 0.4)
    ax.grid(axis="x", visible=False)
    ax.set(title="Other controls")
