"""Figures of gene scores: their distribution, each gene's place, and the best genes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from gradgene.errors import OutputError
from gradgene.plotting.palette import PALETTE, blank_figure, finite, need, styled

__all__ = ["score_distribution", "scores_by_gene", "top_genes"]


@styled
def score_distribution(scores_g: np.ndarray, title: str) -> Figure:
    """Draw the histogram of gene scores with the 1st and 99th percentiles.

    Parameters
    ----------
    scores_g
        Signed score of each gene, shape (g,), in the units of the model's output; NaN is left out.
    title
        Title of the panel.

    Returns
    -------
    Figure
        Counts are on a logarithmic axis that is linear below one, because most scores are near
        zero and the genes of interest are single counts far out.

    Raises
    ------
    OutputError
        If no score is finite.
    """
    scores = finite(scores_g, "score distribution")
    figure = blank_figure(7.2, 3.6)
    ax = figure.subplots()
    spread = scores.max() > scores.min()
    bins: Any = 80 if spread else [scores[0] - 0.5, scores[0] + 0.5]
    ax.hist(scores, bins=bins, color=PALETTE["main"], edgecolor="white", linewidth=0.3)
    ax.set_yscale("symlog", linthresh=1.0, linscale=0.5)
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 4)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    # Both labels go to the emptier side, one above the other: the two lines often all but meet.
    right = np.median(scores) <= (scores.min() + scores.max()) / 2
    for quantile, name, height in ((1, "1st", top * 2.6), (99, "99th", top * 1.2)):
        value = float(np.percentile(scores, quantile))
        ax.axvline(value, color=PALETTE["ink"], linestyle="--", linewidth=1.1, gid=f"p{quantile}")
        ax.annotate(
            f"{name} percentile {_signed(value)}",
            (value, height),
            xytext=(36 if right else -36, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=9.5,
            arrowprops={"arrowstyle": "-", "color": PALETTE["ink"], "linewidth": 0.8, "shrinkB": 0},
        )
    ax.set(title=title, xlabel="Gene score (units of the model output)", ylabel="Genes")
    ax.margins(x=0.05)
    return figure


def _signed(value: float) -> str:
    """A number with its sign and a true minus."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


@styled
def scores_by_gene(scores_g: np.ndarray, genes: Sequence[str], n_label: int = 8) -> Figure:
    """Draw every gene's score in panel order and name the outliers.

    Parameters
    ----------
    scores_g, genes
        Signed scores and gene names, both of shape (g,), in the order to draw; NaN is left out.
    n_label
        At most so many genes beyond the 1st or 99th percentile are named, those of largest
        absolute score first; a name for which there is no free place is left out.

    Returns
    -------
    Figure

    Raises
    ------
    OutputError
        If the two differ in length or no score is finite.
    """
    scores = np.asarray(scores_g, dtype=float).ravel()
    if len(scores) != len(genes):
        raise OutputError(
            "scores and genes differ in length",
            where="scores by gene",
            expected=f"{len(scores)} gene names",
            found=str(len(genes)),
        )
    low, high = np.percentile(finite(scores, "scores by gene"), [1, 99])
    outlier = (scores < low) | (scores > high)
    figure = blank_figure(7.2, 3.8)
    ax = figure.subplots()
    order = np.arange(len(scores))
    for chosen, colour, size in ((~outlier, "#9DB8C9", 7), (outlier, PALETTE["main"], 16)):
        # Rasterised: tens of thousands of vector dots would make an SVG of many megabytes.
        ax.scatter(
            order[chosen], scores[chosen], s=size, color=colour, linewidths=0, rasterized=True
        )
    _percentile_line(ax, low, "1st", "top")
    _percentile_line(ax, high, "99th", "bottom")
    ax.set(
        title="Score of each gene",
        xlabel="Gene (in alphabetical order)",
        ylabel="Gene score\n(units of the model output)",
    )
    ax.margins(x=0.03, y=0.12)
    ranked = order[outlier][np.argsort(-np.abs(scores[outlier]), kind="stable")][:n_label]
    points = [(float(i), float(scores[i]), str(genes[i])) for i in ranked]
    _name_points(figure, ax, points, [(i, scores[i]) for i in order[outlier]])
    return figure


def _percentile_line(ax: Axes, value: float, name: str, side: str) -> None:
    """A horizontal line at a percentile, its name on the given side of it."""
    ax.axhline(value, color=PALETTE["ink"], linestyle="--", linewidth=1.0, gid=f"p{name[:-2]}")
    # Outside the axes, where no point can be under it; below and above, as the two lie close.
    ax.annotate(
        f"{name} percentile\n{_signed(value)}",
        (1.0, value),
        xycoords=("axes fraction", "data"),
        xytext=(5, 2 if side == "bottom" else -2),
        textcoords="offset points",
        va=side,
        fontsize=9,
        color=PALETTE["muted"],
    )


def _name_points(
    figure: Figure,
    ax: Axes,
    points: Sequence[tuple[float, float, str]],
    others: Sequence[tuple[float, float]],
) -> None:
    """Write names beside points: never over another name, and over few of the `others`."""
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    frame = ax.get_window_extent()
    dots = ax.transData.transform(np.asarray(others, dtype=float).reshape(-1, 2))
    taken: list[Bbox] = []
    for x, y, name in points:
        text = ax.annotate(
            name,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": PALETTE["muted"], "linewidth": 0.6},
        )
        size = text.get_window_extent()
        px, py = ax.transData.transform((x, y))
        best: tuple[float, float, float, Bbox] | None = None
        for dx, dy in product((-56, -38, -22, -6, 6, 22, 38, 56), range(-48, 49, 12)):
            left = px + dx * scale - (size.width if dx < 0 else 0)
            box = Bbox.from_bounds(left, py + dy * scale - size.height / 2, *size.size)
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if not inside or any(box.expanded(1.04, 1.1).overlaps(other) for other in taken):
                continue
            covered = (
                ((dots >= np.asarray(box.min) - 3) & (dots <= np.asarray(box.max) + 3))
                .all(axis=1)
                .sum()
            )
            cost = float(np.hypot(dx, dy) + 12 * covered)
            if best is None or cost < best[0]:
                best = (cost, dx, dy, box)
        if best is None:
            text.remove()
            continue
        taken.append(best[3])
        _move(text, best[1], best[2])


def _move(text: Annotation, dx: float, dy: float) -> None:
    """Put a name at an offset in points; right beside its point it needs no leader line."""
    text.xyann = (dx, dy)
    text.set_horizontalalignment("left" if dx > 0 else "right")
    if text.arrow_patch is not None:
        text.arrow_patch.set_visible(abs(dx) + abs(dy) > 18)


@styled
def top_genes(frame: pd.DataFrame, n: int = 30) -> Figure:
    """Draw the highest-ranked genes as bars.

    Parameters
    ----------
    frame
        A gene table: `gene`, `score`, `rank`; optionally `ci_low` and `ci_high` (whiskers, drawn
        where neither is null) and `direction` (`up`/`down`, or a number whose sign says it).
        Rows without a rank are left out.
    n
        How many genes to draw at most.

    Returns
    -------
    Figure
        The best gene on top.

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
    ax.barh(place, rows["score"], height=0.72, color=direction.map(PALETTE))
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
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower right" if rows["score"].mean() > 0 else "lower left", fontsize=9.5)
    ax.set(title=f"The {len(rows)} highest-ranked genes")
    ax.set_xlabel("Gene score (units of the model output)")
    return figure


def _direction(value: Any) -> str:
    """`up`, `down` or `unknown` for a word or a signed number."""
    if isinstance(value, str):
        return value if value in ("up", "down") else "unknown"
    if value is None or pd.isna(value) or value == 0:
        return "unknown"
    return "up" if value > 0 else "down"
