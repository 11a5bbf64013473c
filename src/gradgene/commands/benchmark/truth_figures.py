"""The numbers of `gradgene benchmark truth` that the project has goals for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradgene.cells import PlantedLevel
from gradgene.commands.benchmark.figures import Figure
from gradgene.commands.benchmark.truth_seed import MAIN_ARM, NO_MODEL, UNMATCHED
from gradgene.commands.benchmark.truth_tables import Truth
from gradgene.genes import default_importance, mean_interval

__all__ = ["DEFAULT", "truth_figures"]

#: The method that `gradgene study` runs unless told otherwise.
DEFAULT = "deeplift"


def truth_figures(truth: Truth, level: PlantedLevel) -> list[Figure]:
    """Figures of the models, of the default ranking and of time; medians over seeds.

    The goals are those of the level "default"; other levels have none.
    """
    goals = level.name == "default"
    name = f"{DEFAULT}/{default_importance(DEFAULT)}"
    main, deg = truth.of(MAIN_ARM, name), truth.of(NO_MODEL, "deg")
    figures = [*_model(truth, goals), *_controls(truth, deg, goals)]
    if len(main):
        figures += _default(name, main, deg, goals)
    unmatched = truth.of(UNMATCHED, name)
    if len(unmatched):
        part = f"{name}, not matched on batch"
        there = f"{_spread(unmatched['batch_top10'])} batch genes there"
        values = unmatched["batch_unflagged"]
        figures.append(
            _figure(part, "batch genes in the top 10 without flag", values, goals, 0, note=there)
        )
        flagged, of = unmatched["batch_flagged"], f"of {level.n_batch}, wherever they rank"
        figures.append(_figure(part, "batch genes with the flag", flagged, goals, note=of))
    total = truth.seconds.groupby("cells_seed")["seconds"].sum()
    training = truth.seconds[truth.seconds["part"] == "training"]["seconds"]
    for what, seconds in (("a seed", total), ("training of a seed", training)):
        minutes = seconds / 60
        figures.append(Figure("time", what, _median(minutes), "min", note=_spread(minutes)))
    return figures


def _model(truth: Truth, goals: bool) -> list[Figure]:
    models = truth.models
    learnt, n_xor = models["learnt"], int(models["n_xor"].max())
    accuracy, bayes = models["accuracy"], models["bayes_accuracy"]
    part = "model"
    return [
        _figure(part, "accuracy on held-out donors", accuracy, goals),
        _figure(part, "accuracy of Bayes' classifier", bayes, goals),
        _figure(part, "accuracy less Bayes'", accuracy - bayes, goals),
        Figure(
            part,
            "XOR pairs learnt",
            _median(learnt),
            at_least=2 if goals else None,
            note=f"{_spread(learnt)} of {n_xor}",
        ),
    ]


def _controls(truth: Truth, deg: pd.DataFrame, goals: bool) -> list[Figure]:
    part = "controls"
    # Of all planted genes: that of a level must not depend on what a model has learnt.
    note = "all pairs, learnt or not; training cells"
    figures = [_figure(part, "AUPRC of deg, all", deg["auprc_all"], goals, 0.7, note=note)]
    for name in ("deg", "hvg", "expression", "random"):
        figures.append(_figure(part, f"AUPRC of {name}", truth.of(NO_MODEL, name)["auprc"], goals))
    return figures


def _default(name: str, main: pd.DataFrame, deg: pd.DataFrame, goals: bool) -> list[Figure]:
    part = f"{name}, {MAIN_ARM}"
    gain = main["auprc"] - deg["auprc"]
    low, high = mean_interval(gain.to_numpy())
    interval = "" if np.isnan(low) else f"mean's 95 % interval {low:.2f} to {high:.2f}"
    recall, chance = main["xor_recall"], _median(main["chance"])
    of_orders = _median(main["chance_auprc"])
    beside = f"deg {_median(deg['xor_recall']):.2f}, chance {chance:.2f}"
    return [
        _figure(part, "AUPRC", main["auprc"], goals, note=f"chance {of_orders:.2f}"),
        Figure(
            part,
            "AUPRC less deg's",
            _median(gain),
            at_least=0.15 if goals else None,
            note="; ".join(filter(None, (_spread(gain), interval))),
        ),
        Figure(
            part,
            "recall of learnt XOR genes",
            None if recall.isna().all() else _median(recall),
            at_least=0.7 if goals else None,
            note="no pair was learnt" if recall.isna().all() else f"{_spread(recall)}; {beside}",
        ),
        _figure(part, "decoys in the top 10", main["decoys_top10"], goals, 1),
        _figure(part, "batch genes in the top 10", main["batch_top10"], goals, 0),
    ]


def _figure(
    part: str,
    name: str,
    values: pd.Series,
    goals: bool,
    at_most: float | None = None,
    note: str = "",
) -> Figure:
    said = "; ".join(filter(None, (_spread(values), note)))
    highest = at_most if goals else None
    return Figure(part, name, _median(values), at_most=highest, note=said)


def _median(values: pd.Series) -> float:
    """NaN without a number, and no warning of it."""
    known = values.dropna()
    return float(known.median()) if len(known) else float("nan")


def _spread(values: pd.Series) -> str:
    """Least to most over seeds."""
    known = values.dropna()
    if known.nunique() < 2:
        return f"{known.iloc[0]:.3g}" if len(known) else ""
    return f"{known.min():.3g} to {known.max():.3g}"
