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
    """Give each ranking its colour and line style, the same in every figure of a run.

    Parameters
    ----------
    rankings
        Names such as `deeplift/forward`, `grad_x_delta/contrast/abs`, `hvg`, `random`.
    main
        The ranking the run is about; by default the first that is no control ordering.

    Returns
    -------
    dict
        Ranking → `color`, `linestyle`, `linewidth`, `zorder`. Rankings of one method share a
        colour and differ in dashes; `main` alone is drawn bold in the main colour.
    """
    attributions = [name for name in rankings if name not in CONTROLS]
    main = main if main in rankings else next(iter(attributions), None)
    colours: dict[str, str] = {}
    used: dict[str, int] = {}
    if main is not None:
        colours[main.split("/")[0]] = PALETTE["main"]
        used[main.split("/")[0]] = 1
    styles: dict[str, dict[str, Any]] = {}
    for name in rankings:
        method = name.split("/")[0]
        if name in CONTROLS:
            dash = _DASHES[1] if "_" in name else "-"  # a finer kind of the control before it
            style = {"color": PALETTE[name], "linestyle": dash, "linewidth": 1.6, "zorder": 2.5}
        elif name == main:
            style = {"color": PALETTE["main"], "linestyle": "-", "linewidth": 2.8, "zorder": 4}
        else:
            others = [m for m in colours if main is None or m != main.split("/")[0]]
            place = others.index(method) if method in others else len(others)
            colour = colours.setdefault(method, COMPARED[place % len(COMPARED)])
            nth = used.get(method, 0)
            used[method] = nth + 1
            # Methods that must share a colour differ in dashes as well.
            shared = 0 if method == (main or "").split("/")[0] else place // len(COMPARED)
            dash = _DASHES[(nth + shared) % len(_DASHES)]
            style = {"color": colour, "linestyle": dash, "linewidth": 1.6, "zorder": 3}
        styles[name] = style
    return styles
