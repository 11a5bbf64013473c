"""Lines, axis and names of the figures of pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from gradgene.plotting.palette import PALETTE

__all__ = [
    "MARKER_SIZE",
    "band_handles",
    "chance_line",
    "name_lines",
    "pruning_lines",
    "ratio_axis",
    "ratio_places",
    "spread",
]

_Map = Callable[[np.ndarray], np.ndarray]

#: Bands of more rankings than this would cover each other.
MOST_BANDS = 4
MARKER_SIZE = 4.5


def pruning_lines(
    ax: Axes, chosen: pd.DataFrame, styles: dict[str, dict[str, Any]]
) -> dict[str, tuple[float, float, str]]:
    """Draw every ranking; give each one's last point and the name to write there."""
    rankings = list(dict.fromkeys(chosen["ranking"]))
    banded = _banded(chosen, styles)
    # Lines that coincide show their markers in turn.
    turns = min(len(rankings), max(1, chosen["ratio"].nunique() // 4))
    return {
        name: _pruning_line(ax, name, chosen, styles[name], name in banded, (i % turns, turns))
        for i, name in enumerate(rankings)
    }


def band_handles(chosen: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> list[Patch]:
    """What the bands of these lines are, for a legend."""
    said: dict[str, str] = {}
    for name in _banded(chosen, styles):
        low, _, text = _band(chosen[chosen["ranking"] == name])
        if low is not None and low.notna().any():
            said.setdefault(text, styles[name]["color"])
    return [Patch(color=c, alpha=0.3, linewidth=0, label=text) for text, c in said.items()]


def _banded(chosen: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> list[str]:
    """The rankings that get a band: where there are many, those that are compared most."""
    rankings = list(dict.fromkeys(chosen["ranking"]))
    if len(rankings) <= MOST_BANDS:
        return rankings
    bold = max(style["linewidth"] for style in styles.values())
    return [n for n in rankings if n.startswith("random") or styles[n]["linewidth"] == bold]


def _band(rows: pd.DataFrame) -> tuple[pd.Series | None, pd.Series | None, str]:
    """Lower and upper end of one ranking's band at each ratio, and what they are."""
    by_ratio = rows.groupby("ratio")
    if "draw" in rows and rows["draw"].nunique() > 1:
        values = by_ratio["value"]
        return values.min(), values.max(), "band: lowest to highest draw"
    if {"ci_low", "ci_high"} <= set(rows.columns):
        low, high = (by_ratio[c].mean().astype(float) for c in ("ci_low", "ci_high"))
        return low, high, "band: 95 % interval over donors"
    return None, None, ""


def chance_line(ax: Axes, chance: float) -> None:
    """A dotted line at the value that guessing gives."""
    ax.axhline(chance, color=PALETTE["muted"], linestyle=":", linewidth=1.2, gid="chance")
    ax.annotate(
        f"chance {chance:.2g}",
        (0, chance),
        xycoords=("axes fraction", "data"),
        xytext=(4, -3),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=PALETTE["muted"],
    )


def _pruning_line(
    ax: Axes,
    name: str,
    curves: pd.DataFrame,
    style: dict[str, Any],
    band: bool,
    marked: tuple[int, int],
) -> tuple[float, float, str]:
    """Draw one ranking's line and band; give its last point and the name to write there."""
    rows = curves[curves["ranking"] == name]
    middle = rows.groupby("ratio")["value"].mean()
    draws = rows["draw"].nunique() if "draw" in rows else 1
    places, gid = middle.index, f"ranking:{name}"
    ax.plot(places, middle, markersize=MARKER_SIZE, markevery=marked, gid=gid, **style)
    low, high, _ = _band(rows)
    if band and low is not None and high is not None and low.notna().any():
        ax.fill_between(
            middle.index, low, high, color=style["color"], alpha=0.13, linewidth=0, zorder=1.5
        )
    text = f"{name} (mean of {draws})" if draws > 1 else name
    return float(middle.index[-1]), float(middle.iloc[-1]), text


def ratio_axis(ax: Axes, order: str, chosen: pd.DataFrame, room: float) -> bool:
    """Set up the axis of removed shares; true if it had to be stretched to keep ratios apart.

    Ratios closer than the share `room` of the axis are not both named.
    """
    ratios = np.unique(chosen["ratio"].to_numpy(dtype=float))
    there, back, stretched = _scale(ratios, order)
    ax.set_xscale("function", functions=(there, back))
    places = there(ratios)
    width = float(places[-1] - places[0]) or 1.0
    margins = np.array([places[0] - 0.03 * width, places[-1] + 0.03 * width])
    ax.set_xlim(*(float(x) for x in back(margins)))
    shown = _apart(places, order == "highest_first" and stretched, room * width)
    ax.xaxis.set_major_locator(FixedLocator([float(ratios[i]) for i in shown]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.3g}"))
    return stretched


def ratio_places(ratios: np.ndarray, order: str, room: float) -> tuple[np.ndarray, list[int], bool]:
    """Where the same axis has rising `ratios`, for whoever draws it elsewhere.

    Returns the place of each ratio from 0 (left) to 1, the positions of those that are named, and
    whether the axis is stretched.
    """
    there, _, stretched = _scale(ratios, order)
    places = there(ratios)
    places = (places - places[0]) / (float(places[-1] - places[0]) or 1.0)
    return places, _apart(places, order == "highest_first" and stretched, room), stretched


def _scale(ratios: np.ndarray, order: str) -> tuple[_Map, _Map, bool]:
    """The map from ratios to places, the way back, and whether it stretches."""
    span = float(ratios[-1] - ratios[0])
    stretch = len(ratios) > 2 and float(np.diff(ratios).min()) < 0.04 * span
    if not stretch:
        return _identity, _identity, False
    if order == "lowest_first":
        # What matters happens when few genes are left: the logarithm of the share kept.
        return _log_kept, _from_log_kept, True
    return _log_removed, _from_log_removed, True


def _apart(places: np.ndarray, forward: bool, room: float) -> list[int]:
    """Those of rising places that are at least `room` apart, from the first or the last on."""
    shown: list[int] = []
    for i in range(len(places))[:: 1 if forward else -1]:
        if not shown or abs(places[i] - places[shown[-1]]) >= room:
            shown.append(i)
    return sorted(shown)


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


def name_lines(
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
