"""Figure of how faithful the scores of several methods are, measure by measure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradgene.plotting.palette import CONTROLS, PALETTE, blank_figure, finite, need, styled

__all__ = ["faithfulness_measures"]

#: Panels beside each other.
N_COLUMNS = 3


@styled
def faithfulness_measures(table: pd.DataFrame) -> Figure:
    """Draw a panel for each measure: one dot a method, the interval as a line.

    Parameters
    ----------
    table
        A row a method and measure, in the order to be drawn: `method`, `title` (the measure's name
        with an arrow to the better side), `value`, `ci_low`, `ci_high`. `random` also gives the
        dashed line of chance; it and the other controls are grey.

    Returns
    -------
    Figure
        Panels that share their rows, three in a line.

    Raises
    ------
    OutputError
        If a column is missing or there is no finite value.
    """
    need(table, ["method", "title", "value", "ci_low", "ci_high"], "faithfulness")
    finite(table["value"], "faithfulness")
    titles, methods = ([*dict.fromkeys(table[c].astype(str))] for c in ("title", "method"))
    n_lines = -(-len(titles) // N_COLUMNS)
    figure = blank_figure(9.6, n_lines * (1.0 + 0.3 * len(methods)))
    axes = figure.subplots(n_lines, N_COLUMNS, sharey=True, squeeze=False)
    for ax in axes.flat[len(titles) :]:
        ax.set_visible(False)
    for ax, title in zip(axes.flat, titles, strict=False):
        rows = table[table["title"] == title].set_index("method").reindex(methods)
        place = np.arange(len(methods))
        colours = [PALETTE["random" if m in CONTROLS else "main"] for m in methods]
        ax.hlines(place, rows["ci_low"], rows["ci_high"], color=colours, linewidth=1.6)
        ax.scatter(rows["value"], place, color=colours, s=34, zorder=3)
        chance = rows["value"].get("random")
        if chance is not None and np.isfinite(chance):
            ax.axvline(chance, color=PALETTE["random"], linestyle="--", linewidth=1.1)
        ax.set_title(title, parse_math=False)
        ax.grid(axis="y", visible=False)
        ax.margins(x=0.12)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5)
    axes.flat[0].set_yticks(np.arange(len(methods)), methods, parse_math=False)
    axes.flat[0].set_ylim(len(methods) - 0.5, -0.5)
    return figure
