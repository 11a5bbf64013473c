"""Figures of how rankings agree with each other, and which genes they disagree about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gradgene.errors import OutputError
from gradgene.plotting.palette import COMPARED, PALETTE, blank_figure, need, styled

__all__ = ["disputed_genes", "ranking_agreement"]

_DIVERGING = LinearSegmentedColormap.from_list(
    "down_up", [PALETTE["down"], "#FFFFFF", PALETTE["up"]]
)


@styled
def ranking_agreement(table: pd.DataFrame, names: Sequence[str], main: str | None = None) -> Figure:
    """Draw the agreement of rankings, two by two.

    Parameters
    ----------
    table
        `agreement.parquet`: `first`, `second`, `spearman`, `top_overlap`, `top_k`.
    names
        The rankings to draw, in this order.
    main
        The ranking the run is about, its name set bold.

    Returns
    -------
    Figure
        Below the diagonal Spearman's correlation of the scores, above it the share of the best
        genes in common, both on one scale of colours from -1 to 1.

    Raises
    ------
    OutputError
        If a column is missing, or fewer than two of the rankings are in the table.
    """
    need(table, ["first", "second", "spearman", "top_overlap"], "agreement")
    known = [name for name in names if name in set(table["first"])]
    if len(known) < 2:
        raise OutputError("nothing to draw", where="agreement", expected="two rankings")
    rho, shared = (
        table.pivot_table(index="first", columns="second", values=column, dropna=False)
        .reindex(index=known, columns=known)
        .to_numpy(dtype=float)
        for column in ("spearman", "top_overlap")
    )
    values = np.tril(rho, -1) + np.triu(shared, 1)
    np.fill_diagonal(values, np.nan)
    n = len(known)
    figure = blank_figure(3.2 + 0.55 * n, 2.1 + 0.42 * n)
    ax = figure.subplots()
    ax.imshow(values, cmap=_DIVERGING, vmin=-1, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
            colour = "white" if value < -0.65 else PALETTE["ink"]
            ax.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    _name(ax, known, main)
    k = "" if "top_k" not in table else f"{int(table['top_k'].iloc[0])} "
    ax.set(title="Agreement of the rankings")
    ax.set_xlabel(f"Below the diagonal: rank correlation;\nabove: share of the {k}best genes")
    return figure


def _name(ax: Axes, names: list[str], main: str | None) -> None:
    places = range(len(names))
    ax.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_yticks(places, names)
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set(parse_math=False, fontsize=9.5)
        if text.get_text() == main:
            text.set_fontweight("bold")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


@styled
def disputed_genes(table: pd.DataFrame) -> Figure:
    """Draw where each method places the genes that methods disagree about most.

    Parameters
    ----------
    table
        Rows of `consensus.parquet`: `gene`, `spread` and `rank/<method>` columns.

    Returns
    -------
    Figure
        A row a gene, the most disputed on top; ranks on a logarithmic axis, the best on the left,
        a dashed line behind the last of the best (`top_k`, where the table says it).

    Raises
    ------
    OutputError
        If a column is missing, or there is no gene.
    """
    need(table, ["gene", "spread"], "consensus")
    columns = [name for name in table.columns if name.startswith("rank/")]
    if table.empty or not columns:
        raise OutputError("nothing to draw", where="consensus", expected="one gene")
    rows = table.sort_values("spread", ascending=True, kind="stable").reset_index(drop=True)
    place = np.arange(len(rows))
    ranks = rows[columns].to_numpy(dtype=float)
    figure = blank_figure(7.6, 1.8 + 0.27 * len(rows))
    ax = figure.subplots()
    ax.hlines(place, ranks.min(axis=1), ranks.max(axis=1), color="#C8C8C8", linewidth=1.6)
    colours, markers = (PALETTE["main"], *COMPARED, PALETTE["hvg"], PALETTE["ink"]), "oDs^vPX"
    for i, column in enumerate(columns):
        ax.scatter(
            rows[column],
            place,
            s=38,
            zorder=3,
            color=colours[i % len(colours)],
            marker=markers[i % len(markers)],
            label=column.removeprefix("rank/"),
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if "top_k" in rows:
        ax.axvline(
            float(rows["top_k"].iloc[0]), color=PALETTE["muted"], linestyle="--", linewidth=1
        )
    ax.set_yticks(place, rows["gene"].astype(str), parse_math=False)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(axis="y", visible=False)
    ax.set(title="Genes that methods disagree about most", xlabel="Rank (1 is the best)")
    figure.legend(loc="outside lower left", ncols=3, fontsize=9.5)
    return figure
