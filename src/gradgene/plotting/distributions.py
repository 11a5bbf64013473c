"""Figures of all gene scores at once: their distribution, and each gene's place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from gradgene.errors import OutputError
from gradgene.plotting.palette import PALETTE, blank_figure, finite, styled

__all__ = ["score_distribution", "scores_by_gene"]


@styled
def score_distribution(
    scores_g: np.ndarray, title: str, *, zero_share: float | None = None
) -> Figure:
    """Draw the histogram of gene scores with the 1st and 99th percentiles.

    Parameters
    ----------
    scores_g
        Signed score of each gene, shape (g,), in the units of the model's output; NaN is left out.
    title
        Title of the panel.
    zero_share
        Share (0-1) of the scores of single pairs that are exactly zero, written under the title;
        a gene's score is a mean over pairs and seldom zero itself.

    Returns
    -------
    Figure
        Counts are on a logarithmic axis that is linear below one, because most scores are near
        zero and the genes of interest are single counts far out. Where the tails are heavy the
        scores too are on an axis that is linear in the middle and logarithmic outside; bins are
        equally wide on the axis.

    Raises
    ------
    OutputError
        If no score is finite.
    """
    scores = finite(scores_g, "score distribution")
    figure = blank_figure(6.6, 3.7)
    ax = figure.subplots()
    width = stretch_width(scores)
    ax.hist(scores, bins=_bins(scores, width), color=PALETTE["main"], edgecolor="white", lw=0.3)
    if width is not None:
        _stretch(ax, "x", width, scores)
    ax.set_yscale("symlog", linthresh=1.0, linscale=0.5)
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 4)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    ax.yaxis.set_minor_locator(NullLocator())
    _percentiles(ax, scores, top)
    _zeros(ax, title, int((scores == 0).sum()), len(scores), zero_share)
    stretched = "" if width is None else ", stretched axis"
    ax.set(xlabel=f"Gene score (units of the model output{stretched})", ylabel="Genes")
    ax.margins(x=0.05)
    return figure


def _percentiles(ax: Axes, scores: np.ndarray, top: float) -> None:
    """Vertical lines at the 1st and 99th percentile, named above bars that end at `top`."""
    # Each label goes to the side where there is more room, one above the other.
    ends = np.array([[scores.min(), 0], [scores.max(), 0]])
    centre = float(ax.transScale.transform(ends)[:, 0].mean())
    for quantile, name, height in ((1, "1st", top * 2.6), (99, "99th", top * 1.2)):
        value = float(np.percentile(scores, quantile))
        to_right = ax.transScale.transform((value, 0))[0] <= centre
        ax.axvline(value, color=PALETTE["ink"], ls="--", lw=1.1, gid=f"p{quantile}")
        ax.annotate(
            f"{name} percentile {_signed(value)}",
            (value, height),
            xytext=(14 if to_right else -14, 0),
            textcoords="offset points",
            ha="left" if to_right else "right",
            va="center",
            fontsize=9.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            arrowprops={"arrowstyle": "-", "color": PALETTE["ink"], "linewidth": 0.8, "shrinkB": 0},
        )


def _zeros(ax: Axes, title: str, n_zero: int, n_genes: int, zero_share: float | None) -> None:
    """The title, and under it how many scores are exactly zero."""
    ax.set_title(title, pad=23)
    text = f"Exactly zero: the score of {n_zero:,} of {n_genes:,} genes"
    if zero_share is not None and np.isfinite(zero_share):
        text += f", {100 * zero_share:.3g} % of the scores in single pairs"
    ax.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=9.5,
        color=PALETTE["muted"],
    )


def stretch_width(scores: np.ndarray) -> float | None:
    """How wide an axis for heavy tails is about linear: scores x are placed by arsinh(x / width).

    The width is a third of the outer one of the 1st and 99th percentiles. None where the largest
    score is at most ten times that percentile, so that an ordinary axis shows everything.
    """
    sizes = np.abs(scores)
    limit = float(np.abs(np.percentile(scores, [1, 99])).max())
    if limit == 0 and sizes.max() > 0:  # nearly all genes are exactly zero
        limit = float(np.median(sizes[sizes > 0]))
    # Smooth everywhere, unlike a scale pieced together, which would show as a step in a histogram.
    return limit / 3 if 0 < 10 * limit < sizes.max() else None


def _bins(scores: np.ndarray, width: float | None, n: int = 80) -> Any:
    """Edges of `n` bins that are equally wide on the axis; one bin for a single value."""
    low, high = float(scores.min()), float(scores.max())
    if low == high:
        return [low - 0.5, low + 0.5]
    if width is None:
        return np.linspace(low, high, n + 1)
    edges = width * np.sinh(np.linspace(np.arcsinh(low / width), np.arcsinh(high / width), n + 1))
    edges[0], edges[-1] = low, high  # rounding must not lose the most extreme genes
    return edges


def _stretch(ax: Axes, axis: str, width: float, scores: np.ndarray) -> None:
    """Make the axis about linear up to `width` and logarithmic beyond, with a tick a decade."""
    (ax.set_xscale if axis == "x" else ax.set_yscale)("asinh", linear_width=width)
    line = ax.xaxis if axis == "x" else ax.yaxis
    first = int(np.ceil(np.log10(1.5 * width)))
    last = int(np.floor(np.log10(np.abs(scores).max()))) + 1
    decades = [10.0**k for k in range(first, max(last, first + 1))]
    line.set_major_locator(FixedLocator([*(-d for d in reversed(decades)), 0.0, *decades]))
    line.set_minor_locator(NullLocator())
    line.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", "\N{MINUS SIGN}")))


def _signed(value: float) -> str:
    """A number with its sign and a true minus."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


@styled
def scores_by_gene(
    scores_g: np.ndarray,
    genes: Sequence[str],
    n_label: int = 12,
    *,
    order: str = "in alphabetical order",
) -> Figure:
    """Draw every gene's score in panel order and name the outliers.

    Parameters
    ----------
    scores_g, genes
        Signed scores and gene names, both of shape (g,), in the order to draw; NaN is left out.
    n_label
        At most so many genes beyond the 1st or 99th percentile are named, those of largest
        absolute score first; a name for which there is no free place is left out.
    order
        What the order is, for the axis.

    Returns
    -------
    Figure
        Where the tails are heavy the scores are on an axis that is linear in the middle and
        logarithmic outside.

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
    known = finite(scores, "scores by gene")
    low, high = np.percentile(known, [1, 99])
    outlier = (scores < low) | (scores > high)
    figure = blank_figure(7.2, 4.2)
    ax = figure.subplots()
    place = _dots(ax, scores, outlier)
    width = stretch_width(known)
    if width is not None:
        _stretch(ax, "y", width, known)
    _percentile_line(ax, low, "1st", "top")
    _percentile_line(ax, high, "99th", "bottom")
    stretched = "" if width is None else ", stretched axis"
    ax.set(
        title="Score of each gene",
        xlabel=f"Gene ({order})",
        ylabel=f"Gene score\n(units of the model output{stretched})",
    )
    ax.margins(x=0.03, y=0.08)
    ranked = place[outlier][np.argsort(-np.abs(scores[outlier]), kind="stable")][:n_label]
    points = [(float(i), float(scores[i]), str(genes[i])) for i in ranked]
    _name_points(figure, ax, points, [(i, scores[i]) for i in place[outlier]])
    return figure


def _dots(ax: Axes, scores: np.ndarray, outlier: np.ndarray) -> np.ndarray:
    """One dot a gene at its place 0, 1, …, which are returned; outliers are larger and darker."""
    place = np.arange(len(scores))
    for chosen, colour, size in ((~outlier, "#9DB8C9", 7), (outlier, PALETTE["main"], 16)):
        # Rasterised: tens of thousands of vector dots would make an SVG of many megabytes.
        ax.scatter(
            place[chosen], scores[chosen], s=size, color=colour, linewidths=0, rasterized=True
        )
    return place


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
    leaders: list[np.ndarray] = []
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
        best: tuple[float, float, float, Bbox, np.ndarray] | None = None
        for dx, dy in product((-56, -38, -22, -6, 6, 22, 38, 56), range(-48, 49, 12)):
            left = px + dx * scale - (size.width if dx < 0 else 0)
            box = Bbox.from_bounds(left, py + dy * scale - size.height / 2, *size.size)
            inside = frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)
            if not inside or any(box.expanded(1.04, 1.1).overlaps(other) for other in taken):
                continue
            # A name right beside another point would be read as that point's.
            covered, beside = (_inside(box, dots, pad) for pad in (3.0, 8 * scale))
            own = abs(dx) < 8 and abs(dy) < 8
            leader = np.array([(px, py), ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)])
            crossed = sum(_cross(leader, other) for other in leaders)
            cost = float(np.hypot(dx, dy) + 12 * covered + 20 * (beside - own) + 60 * crossed)
            if best is None or cost < best[0]:
                best = (cost, dx, dy, box, leader)
        if best is None:
            text.remove()
            continue
        taken.append(best[3])
        leaders.append(best[4])
        _move(text, best[1], best[2])


def _inside(box: Bbox, dots: np.ndarray, pad: float) -> int:
    """How many of the dots (n, 2) lie in the box or within `pad` of it, in pixels."""
    near = (dots >= np.asarray(box.min) - pad) & (dots <= np.asarray(box.max) + pad)
    return int(near.all(axis=1).sum())


def _cross(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two segments, each (2, 2) of its ends, cross."""

    def sides(ends: np.ndarray, others: np.ndarray) -> float:
        (x, y), (u, v) = ends[1] - ends[0], (others - ends[0]).T
        turns = x * v - y * u
        return float(turns[0] * turns[1])

    return sides(first, second) < 0 and sides(second, first) < 0


def _move(text: Annotation, dx: float, dy: float) -> None:
    """Put a name at an offset in points; right beside its point it needs no leader line."""
    text.xyann = (dx, dy)
    text.set_horizontalalignment("left" if dx > 0 else "right")
    if text.arrow_patch is not None:
        text.arrow_patch.set_visible(abs(dy) > 8 or abs(dx) > 8)
