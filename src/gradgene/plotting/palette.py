"""The palette, the style, and the checks that every figure shares.

Colours are Okabe and Ito's, which stay apart for every common kind of colour blindness; each role
keeps one colour everywhere. The style is applied while a figure is drawn and then taken back, so
that a caller's own matplotlib settings neither change nor leak in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradgene.errors import OutputError, closest

__all__ = [
    "COMPARED",
    "CONTROLS",
    "METRIC_NAMES",
    "ORDER_NAMES",
    "PALETTE",
    "blank_figure",
    "finite",
    "need",
    "ranking_styles",
    "styled",
]

#: Role → colour. `main` is the attribution a run is about, `up`/`down` the expression change.
PALETTE = {
    "main": "#0072B2",
    "hvg": "#E69F00",
    "hvg_batch": "#9A6A00",
    "deg": "#D55E00",
    "deg_pseudobulk": "#8A3D00",
    "expression": "#222222",
    "random": "#8C8C8C",
    "random_matched": "#B9B9B9",
    "up": "#D55E00",
    "down": "#0072B2",
    "unknown": "#8C8C8C",
    "ink": "#222222",
    "muted": "#666666",
}
#: Colours of the compared methods, in the order in which the methods appear.
COMPARED = ("#009E73", "#CC79A7", "#56B4E9", "#7A5195")
#: The two orders of removal, in words.
ORDER_NAMES = {
    "lowest_first": "least important removed first",
    "highest_first": "most important removed first",
}
#: Metrics as axis labels.
METRIC_NAMES = {
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "f1": "F1",
    "macro_f1": "Macro F1",
    "precision": "Precision",
    "recall": "Recall",
    "probability": "Mean probability of the true label",
    "auroc": "AUROC",
    "probability_drop": "Drop of the true label's probability",
}
#: Rankings that involve no model.
CONTROLS = (
    "hvg",
    "hvg_batch",
    "deg",
    "deg_pseudobulk",
    "expression",
    "random",
    "random_matched",
)
#: Colours and markers of rankings beside the main one, in the order in which they appear.
_RANKED = (*COMPARED, "#A6004D", "#6B8E00", "#00606B", "#F0027F")
_MARKERS = "o^sDvP*X<>"
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (6, 1.4, 1.2, 1.4, 1.2, 1.4)),
)
_STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": PALETTE["ink"],
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.labelcolor": PALETTE["ink"],
    "axes.edgecolor": PALETTE["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the house style, whatever style the caller has set, and restore theirs."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def blank_figure(width: float, height: float) -> Figure:
    """A blank figure of `width` x `height` inches under constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def finite(values: Any, what: str) -> np.ndarray:
    """`values` as a flat float array without NaN or infinity; an `OutputError` if none is left."""
    array: np.ndarray = np.asarray(values, dtype=float).ravel()
    array = array[np.isfinite(array)]
    if array.size == 0:
        raise OutputError(
            "nothing to draw", where=what, expected="at least one finite value", found="none"
        )
    return np.asarray(array)


def need(frame: pd.DataFrame, columns: Iterable[str], what: str) -> None:
    """Check that `frame` has `columns`, naming the first one that is missing."""
    for column in columns:
        if column not in frame.columns:
            raise OutputError(
                f"column {column!r} is missing",
                where=what,
                found=closest(column, list(map(str, frame.columns))) or "no columns",
            )


def ranking_styles(rankings: Sequence[str], main: str | None = None) -> dict[str, dict[str, Any]]:
    """Give each ranking its colour, marker and line style, the same in every figure of a run.

    Parameters
    ----------
    rankings
        Names such as `deeplift/forward`, `grad_x_delta/contrast/abs`, `hvg`, `random`.
    main
        The ranking the run is about; by default the first that is no control ordering.

    Returns
    -------
    dict
        Ranking → `color`, `marker`, `linestyle`, `linewidth`, `zorder`. Each ranking has a colour
        of its own, and where these are used up a dash; `main` alone is drawn bold, in the main
        colour and below the others, which it would hide where they coincide.
    """
    attributions = [name for name in rankings if name not in CONTROLS]
    main = main if main in rankings else next(iter(attributions), None)
    beside = [name for name in attributions if name != main]
    styles: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(rankings):
        style: dict[str, Any] = {"linestyle": "-", "linewidth": 1.6, "zorder": 3}
        if name in CONTROLS:
            style |= {"color": PALETTE[name], "zorder": 2.9}
            if "_" in name:  # a finer kind of the control before it
                style["linestyle"] = _DASHES[1]
        elif name == main:
            style |= {"color": PALETTE["main"], "linewidth": 2.8, "zorder": 2.8}
        else:
            again, nth = divmod(beside.index(name), len(_RANKED))
            style |= {"color": _RANKED[nth], "linestyle": _DASHES[again % len(_DASHES)]}
        styles[name] = {**style, "marker": _MARKERS[place % len(_MARKERS)]}
    return styles
