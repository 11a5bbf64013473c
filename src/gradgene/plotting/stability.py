"""Figures of stability: how many pairs are enough, and how much rests on one donor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from gradgene.plotting.palette import COMPARED, PALETTE, blank_figure, finite, need, styled

__all__ = ["donor_stability", "pair_stability"]

#: Share of the draws that the band holds.
BAND = (0.05, 0.95)


@styled
def pair_stability(
    table: pd.DataFrame, n_enough: int | None = None, *, top_k: int | None = None
) -> Figure:
    """Draw how alike a ranking of n pairs is to one of other pairs.

    Parameters
    ----------
    table
        `n_pairs`, `draw`, `spearman`, `top_overlap`, `n_genes`: a row a halving and size.
    n_enough
        Where the curve has levelled off; None draws no such line.
    top_k
        How many best genes were compared, for the label.

    Returns
    -------
    Figure
        Left Spearman's correlation, right the share of the best genes in common; line: mean over
        halvings, band: 90 % of them, dashed: chance.

    Raises
    ------
    OutputError
        If a column is missing or there is nothing to draw.
    """
    need(table, ["n_pairs", "draw", "spearman", "top_overlap", "n_genes"], "stability")
    finite(table["spearman"], "stability")
    # Sizes that only some halvings reach would make the line jump.
    counts = table.groupby("n_pairs")["draw"].nunique()
    table = table[table["n_pairs"].isin(counts.index[counts == counts.max()])]
    best = "best genes" if top_k is None else f"{top_k} best genes"
    chance = None if top_k is None else min(1.0, top_k / float(table["n_genes"].iloc[0]))
    figure = blank_figure(9.2, 3.9)
    left, right = figure.subplots(1, 2, sharex=True)
    _band(left, table, "spearman")
    _band(right, table, "top_overlap")
    left.axhline(0, color=PALETTE["random"], linestyle="--", linewidth=1.1)
    if chance is not None:
        right.axhline(chance, color=PALETTE["random"], linestyle="--", linewidth=1.1)
    left.set(title="Rank correlation of all genes", ylabel="Spearman correlation")
    right.set(title=f"Share of the {best} in common", ylabel="Share of genes")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="Pairs in the ranking")
        sizes = sorted(table["n_pairs"].unique())
        ax.set_xticks(_apart(sizes))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(min(-0.03, ax.get_ylim()[0]), 1.02)
        if n_enough is not None:
            ax.axvline(n_enough, color=PALETTE["ink"], linestyle=":", linewidth=1.4, gid="enough")
    if n_enough is not None:
        _say_enough(left, table["n_pairs"], n_enough)
    return figure


def _say_enough(ax: Axes, sizes: pd.Series, n_enough: int) -> None:
    """Beside the line, on the side where there is room."""
    early = n_enough**2 <= sizes.min() * sizes.max()
    ax.annotate(
        f"95 % of the last at {n_enough:,}",
        (n_enough, 0.06),
        xytext=(5 if early else -5, 0),
        textcoords="offset points",
        ha="left" if early else "right",
        fontsize=9.5,
    )


def _band(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """Mean over draws and the band around it."""
    groups = table.groupby("n_pairs")[column]
    mean, low, high = groups.mean(), groups.quantile(BAND[0]), groups.quantile(BAND[1])
    x = mean.index.to_numpy(dtype=float)
    ax.fill_between(x, low, high, color=PALETTE["main"], alpha=0.18, linewidth=0)
    ax.plot(x, mean, color=PALETTE["main"], marker="o", markersize=5)


def _apart(sizes: list[int]) -> list[int]:
    """The sizes to be named: none so near the next that their names would touch."""
    kept: list[int] = []
    for size in reversed(sizes):
        if not kept or size <= kept[-1] / 1.45:
            kept.append(size)
    return kept[::-1]


@styled
def donor_stability(table: pd.DataFrame) -> Figure:
    """Draw the ranking without each donor against that of all, and against the donor's own.

    Parameters
    ----------
    table
        `donor`, `against` ("all" or "donor"), `spearman`, `top_overlap`.

    Returns
    -------
    Figure
        A row a donor, the one on whom most rests at the top.

    Raises
    ------
    OutputError
        If a column is missing or there is nothing to draw.
    """
    need(table, ["donor", "against", "spearman", "top_overlap"], "stability")
    finite(table["spearman"], "stability")
    alone = table[table["against"] == "all"].set_index("donor")["spearman"]
    donors = list(alone.sort_values(ascending=False, kind="stable").index)
    place = {donor: i for i, donor in enumerate(donors)}
    figure = blank_figure(8.6, 1.7 + 0.26 * len(donors))
    left, right = figure.subplots(1, 2, sharey=True)
    for against, name, colour, marker, shift in (
        ("all", "with the ranking of all donors", PALETTE["main"], "o", 0.14),
        ("donor", "with the ranking of the donor alone", COMPARED[0], "D", -0.14),
    ):
        mine = table[table["against"] == against]
        y = mine["donor"].map(place).to_numpy(dtype=float) + shift
        style: dict[str, Any] = {"color": colour, "marker": marker, "s": 34, "zorder": 3}
        left.scatter(mine["spearman"], y, label=name, **style)
        right.scatter(mine["top_overlap"], y, **style)
    left.set_yticks(range(len(donors)), [str(d) for d in donors], parse_math=False)
    left.set_ylim(-0.6, len(donors) - 0.4)
    lowest = float(np.nanmin(table["spearman"]))
    left.set(title="Rank correlation", xlim=(min(-0.02, 1.1 * lowest), 1.03))
    left.set(xlabel="Spearman correlation", ylabel="Donor left out")
    right.set(title="Best genes in common", xlabel="Share of genes", xlim=(-0.03, 1.03))
    figure.legend(loc="outside lower left", ncols=2, fontsize=9.5)
    return figure
