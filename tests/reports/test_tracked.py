"""Figures and curves that every tracker takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gradgene.reports import RunFiles
from gradgene.reports.tracked import best_validation, curve_steps, stage_figures

KEYS = {"arm": "both", "metric": "balanced_accuracy"}


def curves(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"ranking": name, "order": "lowest_first", "ratio": ratio, "draw": draw, "value": v, **KEYS}
        for name, found in values.items()
        for draw in (0, 1)
        for ratio, v in zip((0.0, 0.995), found, strict=True)
    ]
    other = {**rows[0], "arm": "input", "value": 9.0}
    return pd.DataFrame([*rows, other])


def test_the_kept_checkpoint_is_the_one_of_least_loss() -> None:
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "val/loss": [0.9, 0.4, 0.5],
            "val/balanced_accuracy": [0.5, 0.8, 0.9],
            "train/loss": [1.0, 1.0, 1.0],
        }
    )
    run = RunFiles(path=Path(), history=history, metrics={"test/ece": 0.1, "pairs/n_pairs": 3})
    assert best_validation(run) == {"val/loss": 0.4, "val/balanced_accuracy": 0.8}
    assert stage_figures(run, "train", ("test/",)) == {"test/ece": 0.1, **best_validation(run)}
    assert stage_figures(run, "attribute", ("pairs/",)) == {"pairs/n_pairs": 3.0}
    assert best_validation(RunFiles(path=Path())) == {}


def test_areas_are_those_of_all_cells_and_numbers_only() -> None:
    rows = [("a/b", "both", 0.25), ("c/d", "both", np.nan), ("a/b", "input", 0.5)]
    summary = pd.DataFrame(rows, columns=["ranking", "arm", "area"]).assign(
        order="lowest_first", metric="balanced_accuracy"
    )
    run = RunFiles(path=Path(), summary=summary, metrics={"pruning/chance": 0.5, "x": None})
    found = {"pruning/chance": 0.5, "pruning/area/lowest_first/a/b": 0.25}
    assert stage_figures(run, "prune", ("pruning/", "x")) == found


def test_curves_step_by_step_with_the_retrained_ones() -> None:
    table = curves(one=[0.9, 0.6], random=[0.9, 0.5])
    table.loc[(table["ranking"] == "random") & (table["draw"] == 1), "value"] -= 0.1
    run = RunFiles(path=Path(), curves=table, retrained=curves(one=[0.9, 0.7]))
    (zero, first), (last, second) = curve_steps(run, "prune")
    assert (zero, last) == (0, 995)
    assert second["pruning/removed"] == 0.995
    assert second["pruning/curves/lowest_first/one"] == 0.6
    assert abs(second["pruning/curves/lowest_first/random"] - 0.45) < 1e-12, "the mean of draws"
    assert second["pruning/retrained/lowest_first/one"] == 0.7
    assert first["pruning/retrained/lowest_first/one"] == 0.9
    assert curve_steps(run, "attribute") == []


def test_areas_are_against_random_alone() -> None:
    rows = [("a/b", 0.2, "random"), ("a/b (random weights)", 0.4, "whole panel")]
    table = pd.DataFrame(rows, columns=["ranking", "area", "against"])
    run = RunFiles(path=Path(), summary=table.assign(order="lowest_first", **KEYS))
    assert stage_figures(run, "prune", ()) == {"pruning/area/lowest_first/a/b": 0.2}
