"""Figures of how well rankings find the genes that were planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradgene.errors import OutputError
from gradgene.plotting.palette import COMPARED, CONTROLS, PALETTE, blank_figure, need, styled

__all__ = ["truth_by_arm", "truth_overview"]

#: Panels of the overview: column, title, name of the axis.
PANELS = (
    ("auprc", "Planted genes", "AUPRC"),
    ("xor_recall", "Learnt XOR genes", "Recall at k"),
    ("decoys_top10", "Always-on decoys", "In the top 10"),
)
#: The colour of published importances.
PUBLISHED = COMPARED[1]
#: Arms in words, short enough for a title.
ARM_NAMES = {"cell_state": "matched cell"}


@styled
def truth_overview(rankings: pd.DataFrame) -> Figure:
    """Draw the AUPRC, the recall of XOR genes and the decoys of rankings, the best on top.

    Parameters
    ----------
    rankings
        A row a ranking and seed: `ranking`, `method`, `auprc`, `chance_auprc`, `xor_recall` (may be
        NaN) and `decoys_top10`. Methods "deg", "hvg", "expression" and "random" are controls.

    Returns
    -------
    Figure
        Small dots are seeds, bars their median; dashed lines are DEG's medians, dotted chance.
        Published rankings ("…/paper_…") have a colour of their own.

    Raises
    ------
    OutputError
        If a column is missing or there is no row.
    """
    need(rankings, ["ranking", "method", "chance_auprc", *(p[0] for p in PANELS)], "truth")
    _require_rows(rankings)
    median = rankings.groupby("ranking")["auprc"].median()
    names = list(median.sort_values(kind="stable").index)
    place = {name: i for i, name in enumerate(names)}
    figure = blank_figure(9.8, 1.5 + 0.29 * len(names))
    axes = figure.subplots(1, len(PANELS), sharey=True, width_ratios=(1.5, 1, 1))
    for ax, (column, title, label) in zip(axes, PANELS, strict=True):
        _dots(ax, rankings, place, column)
        _line(ax, rankings.loc[rankings["method"] == "deg", column], "deg", "--")
        ax.set(title=title, xlabel=label)
    _line(axes[0], rankings["chance_auprc"], "random", ":")
    axes[0].set_xlim(0, 1.03)
    axes[1].set_xlim(-0.05, 1.05)
    most = max(float(rankings["decoys_top10"].max()), 4)
    axes[2].set_xlim(-0.03 * most, 1.05 * most)
    axes[0].set_yticks(range(len(names)), names, parse_math=False)
    axes[0].set_ylim(-0.6, len(names) - 0.4)
    ink = PALETTE["ink"]
    published = [
        Line2D([], [], color=PUBLISHED, marker="o", markersize=4, linestyle="", label="published")
    ] * any("/paper_" in name for name in names)
    handles = [
        Line2D([], [], color=PALETTE["deg"], linestyle="--", label="DEG"),
        Line2D([], [], color=PALETTE["random"], linestyle=":", label="chance"),
        *published,
        Line2D([], [], color=ink, marker="|", markersize=11, linestyle="", label="median"),
        Line2D([], [], color=ink, marker="o", markersize=4, linestyle="", label="seed"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


@styled
def truth_by_arm(summary: pd.DataFrame) -> Figure:
    """Draw the AUPRC of every importance of every method, a panel an arm.

    Parameters
    ----------
    summary
        A row a ranking, arms in the order of their panels: `arm`, `method`, `importance`
        ("forward", "forward/abs", ...; "" for controls, whose arm is "none"), `auprc` (median over
        seeds), `auprc_min`, `auprc_max`. Importances of a method that agree in every arm share a
        row.

    Returns
    -------
    Figure
        Filled dots rank by the signed score and hollow ones by its magnitude, with lines from
        the lowest to the highest seed; the dashed line is DEG.

    Raises
    ------
    OutputError
        If a column is missing or no row has an arm.
    """
    need(summary, ["arm", "method", "importance", "auprc", "auprc_min", "auprc_max"], "truth")
    scored = summary[summary["importance"] != ""]
    _require_rows(scored)
    scored = scored.assign(
        name=scored["importance"].str.removesuffix("/abs"),
        absolute=scored["importance"].str.endswith("/abs"),
    )
    rows = [(method, row) for method, found in _rows_of(scored).items() for row in found]
    arms = list(dict.fromkeys(scored["arm"]))
    figure = blank_figure(4.2 + 1.7 * len(arms), 1.6 + 0.19 * len(rows))
    axes = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
    line_of = {
        (method, name): len(rows) - 1 - i for i, (method, row) in enumerate(rows) for name in row
    }
    breaks = [len(rows) - 0.5 - i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0]]
    deg = summary.loc[summary["method"] == "deg", "auprc"]
    for ax, arm in zip(axes, arms, strict=True):
        _arm(ax, scored[scored["arm"] == arm], line_of)
        _line(ax, deg, "deg", "--")
        for height in breaks:
            ax.axhline(height, color=PALETTE["muted"], linewidth=0.6)
        ax.set_title(ARM_NAMES.get(arm, arm))
        ax.set_xlabel("AUPRC")
    axes[0].set_xlim(0, 1.03)
    named = [
        ("" if i and rows[i - 1][0] == method else f"{method}: ") + ", ".join(row)
        for i, (method, row) in enumerate(rows)
    ]
    axes[0].set_yticks(range(len(rows)), named[::-1], fontsize=8.5, parse_math=False)
    axes[0].set_ylim(-0.7, len(rows) - 0.3)
    _legend_by_arm(figure)
    return figure


def _legend_by_arm(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=PALETTE["main"], marker="o", linestyle="", label="signed"),
        Line2D([], [], color=PALETTE["main"], marker="o", markerfacecolor="white", linestyle="",
               label="magnitude"),
        Line2D([], [], color=PALETTE["deg"], linestyle="--", label="DEG"),
    ]  # fmt: skip
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        title="lines: lowest to highest seed; an empty cell: not defined there, or not run",
        title_fontsize=9,
    )


def _rows_of(scored: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Method -> rows of importances that agree wherever there are both; methods by their best."""
    best = scored.groupby("method")["auprc"].max().sort_values(ascending=False, kind="stable")
    rows: dict[str, list[list[str]]] = {}
    for method in map(str, best.index):
        mine = scored[scored["method"] == method]
        wide = mine.pivot_table(index=["arm", "absolute"], columns="name", values="auprc")
        found: list[list[str]] = []
        rows[method] = found
        for name in sorted(map(str, wide.columns), key=_place_of):
            row = next((row for row in found if all(_agree(wide, name, r) for r in row)), None)
            if row is None:
                found.append([name])
            else:
                row.append(name)
    return rows


def _place_of(importance: str) -> tuple[bool, str]:
    """The published ones come last."""
    return importance.startswith("paper_"), importance


def _agree(wide: pd.DataFrame, one: str, other: str) -> bool:
    """Whether two columns have the same numbers where there are both, and some are."""
    both = wide[[one, other]].dropna()
    return len(both) > 0 and bool(np.allclose(both[one], both[other], atol=1e-9))


def _arm(ax: Axes, rows: pd.DataFrame, line_of: dict[tuple[str, str], int]) -> None:
    """Dots of one arm; where signed and absolute differ they lie a little apart."""
    y = np.array([line_of[key] for key in zip(rows["method"], rows["name"], strict=True)], float)
    hollow = rows["absolute"].to_numpy()
    y += np.where(hollow, -0.16, 0.16)
    random = (rows["method"] == "random").to_numpy()
    for chosen, colour in ((~random, PALETTE["main"]), (random, PALETTE["random"])):
        part, at = rows[chosen], y[chosen]
        ax.hlines(at, part["auprc_min"], part["auprc_max"], color=colour, linewidth=1.0)
        faces = ["white" if h else colour for h in hollow[chosen]]
        ax.scatter(part["auprc"], at, s=17, color=faces, edgecolor=colour, linewidth=1, zorder=3)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)


def _dots(ax: Axes, rankings: pd.DataFrame, place: dict[str, int], column: str) -> None:
    """A dot a seed and a bar at the median of each ranking."""
    for name, rows in rankings.groupby("ranking"):
        method, known = str(rows["method"].iloc[0]), rows[column].dropna()
        colour = PALETTE[method] if method in CONTROLS else PALETTE["main"]
        colour = PUBLISHED if "/paper_" in str(name) else colour
        y = place[str(name)]
        ax.scatter(known, [y] * len(known), s=16, color=colour, alpha=0.75, zorder=3, linewidth=0)
        if len(known):
            ax.scatter([known.median()], [y], marker="|", s=130, color=colour, zorder=4)
    ax.grid(axis="y", color="#F0F0F0")
    ax.tick_params(axis="y", length=0)


def _line(ax: Axes, values: pd.Series, role: str, dashes: str) -> None:
    if values.notna().any():
        ax.axvline(float(values.median()), color=PALETTE[role], linestyle=dashes, linewidth=1.2)


def _require_rows(frame: pd.DataFrame) -> None:
    if not len(frame):
        raise OutputError("nothing to draw", where="truth", expected="at least one ranking")
