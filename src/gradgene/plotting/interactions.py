"""Figure of gene-gene interactions: a heat map of every two genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from gradgene.plotting.palette import PALETTE, blank_figure, finite, need, styled

__all__ = ["interaction_map"]

_DIVERGING = LinearSegmentedColormap.from_list(
    "less_more", [PALETTE["down"], "#FFFFFF", PALETTE["up"]]
)
#: Below this adjusted p a field is marked.
ALPHA = 0.05
_NEEDED = ("gene_a", "gene_b", "interaction", "excess", "p_adjusted")


@styled
def interaction_map(table: pd.DataFrame, genes: list[str] | None = None) -> Figure:
    """Draw the interactions of every two genes, and what of them single effects do not give.

    Parameters
    ----------
    table
        `gene_a`, `gene_b`, `interaction`, `excess`, in the units of f, and `p_adjusted` (may be
        missing values); every two genes once.
    genes
        Their order along both axes; by default that in which the strongest excess of each falls.

    Returns
    -------
    Figure
        Below the diagonal interactions, above it their excess, on one scale; marked where the
        adjusted p of the excess is below 0.05.

    Raises
    ------
    OutputError
        If a column is missing or there is no finite interaction.
    """
    need(table, _NEEDED, "interactions")
    finite(table["interaction"], "interactions")
    if genes is None:
        strongest = table.loc[table["excess"].abs().sort_values(ascending=False).index]
        genes = list(dict.fromkeys(strongest[["gene_a", "gene_b"]].astype(str).to_numpy().ravel()))
    place = {gene: i for i, gene in enumerate(genes)}
    a, b = (table[c].astype(str).map(place).to_numpy(dtype=int) for c in ("gene_a", "gene_b"))
    low, high = np.maximum(a, b), np.minimum(a, b)
    values = np.full((len(genes), len(genes)), np.nan)
    values[low, high], values[high, low] = table["interaction"], table["excess"]
    side = 2.6 + 0.27 * len(genes)
    figure = blank_figure(side + 1.1, side + 0.3)
    ax = figure.subplots()
    most = float(np.nanmax(np.abs(values))) or 1.0
    image = ax.imshow(values, cmap=_DIVERGING, vmin=-most, vmax=most)
    chosen = (table["p_adjusted"] < ALPHA).to_numpy()
    ax.scatter(low[chosen], high[chosen], s=16, color=PALETTE["ink"], gid="significant")
    _name_axes(ax, genes)
    bar = figure.colorbar(image, ax=ax, shrink=0.75, pad=0.02)
    bar.set_label("less   ←   both high, against each alone   →   more")
    bar.outline.set_visible(False)
    ax.set_title("Read together: interactions of the best genes")
    notes = "Below the diagonal: interaction. Above: what single effects do not give"
    if table["p_adjusted"].notna().any():
        notes += f"\n(dot: beyond permuted pairs of genes, adjusted p < {ALPHA:g})"
    ax.set_xlabel(notes + ".")
    return figure


def _name_axes(ax: Axes, genes: list[str]) -> None:
    """Gene names along both axes, and a diagonal that is nobody's."""
    at = range(len(genes))
    ax.set_xticks(at, genes, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(at, genes)
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set(parse_math=False, fontsize=9)
    ax.plot([-0.5, len(genes) - 0.5], [-0.5, len(genes) - 0.5], color="#BBBBBB", linewidth=0.8)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
