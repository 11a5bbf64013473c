"""Figures of what is known from elsewhere: published effects and enriched gene sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradgene.plotting.palette import (
    COMPARED,
    PALETTE,
    blank_figure,
    finite,
    need,
    styled,
)

__all__ = ["effect_correlations", "enrichment_bars"]

#: Beyond so many labels numbers no longer fit into the fields.
MOST_NUMBERS = 14
_DIVERGING = LinearSegmentedColormap.from_list(
    "down_up", [PALETTE["down"], "#FFFFFF", PALETTE["up"]]
)


@styled
def effect_correlations(effects: pd.DataFrame, main: str | None = None) -> Figure:
    """Draw how rankings agree with published effects, a row a ranking, a column a label.

    Parameters
    ----------
    effects
        `ranking`, `label`, `spearman` (-1 to 1; null where it is not defined).
    main
        The ranking the run is about, its name set bold.

    Returns
    -------
    Figure
        Best median on top; the last column is the median over labels.

    Raises
    ------
    OutputError
        If a column is missing or there is no correlation.
    """
    need(effects, ["ranking", "label", "spearman"], "effects")
    finite(effects["spearman"], "effects")
    known = effects.dropna(subset=["spearman"])
    wide = known.pivot_table(index="ranking", columns="label", values="spearman", sort=False)
    wide = wide.loc[wide.median(axis=1).sort_values(ascending=False, kind="stable").index]
    values = np.column_stack([wide.to_numpy(dtype=float), wide.median(axis=1)])
    names = [*map(str, wide.columns), "median"]
    figure = blank_figure(2.6 + 0.62 * len(names), 1.9 + 0.27 * len(wide))
    ax = figure.subplots()
    most = float(np.nanmax(np.abs(values))) or 1.0
    ax.imshow(values, cmap=_DIVERGING, vmin=-most, vmax=most, aspect="auto")
    if len(wide.columns) <= MOST_NUMBERS:
        _write_values(ax, values, most)
    ax.axvline(len(names) - 1.5, color="white", linewidth=5, gid="median")
    ax.set_xticks(
        range(len(names)),
        [_short(name, 26) for name in names],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_yticks(range(len(wide)), list(map(str, wide.index)))
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set(parse_math=False, fontsize=9.5)
        if text.get_text() == main:
            text.set_fontweight("bold")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set(title="Agreement with published effects", xlabel="Spearman correlation in each label")
    return figure


def _write_values(ax: Axes, values: np.ndarray, most: float) -> None:
    """The number in each field, white where the field is too dark a blue for ink."""
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            ax.text(
                j,
                i,
                f"{value:.2f}".replace("-", "\N{MINUS SIGN}"),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if value < -0.65 * most else PALETTE["ink"],
            )


@styled
def enrichment_bars(enrichment: pd.DataFrame, n: int = 15, *, level: float = 0.05) -> Figure:
    """Draw the gene sets that the best genes are richest in.

    Parameters
    ----------
    enrichment
        `gene_set`, `collection`, `n_set`, `n_overlap`, `p_adjusted` (0-1).
    n
        How many sets to draw at most, those of smallest adjusted p; beyond the first five only
        those below 0.5, so that no list of empty bars is drawn.
    level
        Where the dashed line stands, as an adjusted p.

    Returns
    -------
    Figure
        Bars of -log10 of the adjusted p, the best set on top, coloured by collection; beside each
        how many of the set's scored genes are among the best.

    Raises
    ------
    OutputError
        If a column is missing or no set has an adjusted p.
    """
    columns = ["gene_set", "collection", "n_set", "n_overlap", "p_adjusted"]
    need(enrichment, columns, "enrichment")
    finite(enrichment["p_adjusted"], "enrichment")
    rows = enrichment.dropna(subset=["p_adjusted"])
    rows = rows.sort_values("p_adjusted", kind="stable").head(n).reset_index(drop=True)
    rows = rows[(rows.index < 5) | (rows["p_adjusted"] < 0.5)]
    # The smallest double, so that an underflown p of zero is a long bar and not an infinite one.
    sizes = -np.log10(rows["p_adjusted"].astype(float).clip(lower=5e-324))
    collections = list(dict.fromkeys(enrichment["collection"].astype(str)))
    colours = {c: (PALETTE["main"], *COMPARED)[i % 5] for i, c in enumerate(collections)}
    figure = blank_figure(7.6, 1.3 + 0.27 * len(rows))
    ax = figure.subplots()
    place = np.arange(len(rows))
    ax.barh(place, sizes, height=0.7, color=[colours[str(c)] for c in rows["collection"]])
    for i, row in rows.iterrows():
        ax.annotate(
            f"{int(row['n_overlap'])} of {int(row['n_set'])}",
            (1.0, float(place[int(str(i))])),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=PALETTE["muted"],
        )
    ax.axvline(-np.log10(level), color=PALETTE["ink"], linestyle="--", linewidth=1.0, gid="level")
    ax.set_yticks(place, [_short(str(name)) for name in rows["gene_set"]], parse_math=False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    if len(collections) > 1:
        handles = [Line2D([], [], color=colours[c], linewidth=6, label=c) for c in collections]
        # Below the axes: bars may reach anywhere within them.
        figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=9)
    ax.set(title="Gene sets among the best genes")
    ax.set_xlabel(f"\N{MINUS SIGN}log$_{{10}}$ of the adjusted p (dashed: {level:g})")
    return figure


def _short(name: str, most: int = 40) -> str:
    """A set's name without underscores, cut where it would take the figure's room."""
    text = name.replace("_", " ")
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
