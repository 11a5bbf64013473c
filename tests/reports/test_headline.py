"""The numbers at the top of the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.genes import mean_interval
from gradgene.reports import RunFiles
from gradgene.reports.headline import accuracy_interval, bracketed, key_figures, pruning_points
from gradgene.reports.sections import control_ranking_table
from tests.reports.synthetic import METRICS, confusion_table, curves_table, donor_table, write_run


def test_over_donors_where_there_are_three(tmp_path: Path) -> None:
    donors = pd.DataFrame({"donor": ["a", "b", "c"], "n_cells": 9})
    donors["balanced_accuracy"] = [0.9, 0.95, 0.97]
    run = RunFiles(tmp_path, metrics=METRICS, donors=donors, confusion=confusion_table())
    found = accuracy_interval(run)
    assert found == (*mean_interval(np.array([0.9, 0.95, 0.97])), "over 3 donors")


def test_over_cells_where_donors_are_few(tmp_path: Path) -> None:
    run = RunFiles(tmp_path, metrics=METRICS, donors=donor_table(), confusion=confusion_table())
    found = accuracy_interval(run)
    assert found is not None and found[2] == "over cells"
    assert found[0] == pytest.approx(0.957 - 0.0061, abs=2e-4)
    assert found[1] == pytest.approx(0.957 + 0.0061, abs=2e-4)


def test_a_perfect_model_is_not_sure_of_it(tmp_path: Path) -> None:
    labels = pd.DataFrame({"truth": ["a", "b"], "predicted": ["a", "b"], "n_cells": [10, 20]})
    run = RunFiles(tmp_path, metrics={"test/balanced_accuracy": 1.0}, confusion=labels)
    found = accuracy_interval(run)
    assert found is not None and found[0] < 0.95 and found[1] == 1


def test_none_where_the_confusion_is_of_other_cells(tmp_path: Path) -> None:
    metrics = {"test/balanced_accuracy": 0.5}
    assert (
        accuracy_interval(RunFiles(tmp_path, metrics=metrics, confusion=confusion_table())) is None
    )
    assert accuracy_interval(RunFiles(tmp_path, metrics=metrics)) is None
    assert accuracy_interval(RunFiles(tmp_path, confusion=confusion_table())) is None


def test_brackets() -> None:
    assert bracketed(0.12345, 2, "over donors") == "[0.123, 2] over donors"
    assert bracketed(None, 1) == bracketed(0.5, float("nan")) == ""


def test_key_figures(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, n_genes=60))
    model, gene, keep, drop = key_figures(run)
    assert (model.value, model.note) == ("0.957", "guessing: 0.5 (2 labels)")
    assert model.interval.endswith("over cells")
    best = run.ranked_genes.iloc[0]  # type: ignore[union-attr]
    assert gene.value == best["gene"] and gene.interval.endswith("over donors")
    assert "highest of 60" in gene.note
    assert keep.name == "Balanced accuracy with only the best 5 % of genes"
    assert drop.name == "Balanced accuracy without the best 2 % of genes"
    assert "random genes: " in keep.note and keep.interval.startswith("[")
    assert key_figures(RunFiles(tmp_path)) == []


def test_points_where_the_pruning_is_judged(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, n_genes=60))
    points = list(pruning_points(run))
    assert [(p.order, p.ratio) for p in points] == [("lowest_first", 0.95), ("highest_first", 0.02)]
    assert all(set(p.own["ranking"]) == {"deeplift/forward"} and len(p.own) == 1 for p in points)


def test_controls_are_told_from_the_ranking(tmp_path: Path) -> None:
    curves = curves_table()
    matched = curves[curves["ranking"] == "random"].assign(ranking="random_matched", value=0.625)
    null = curves[curves["ranking"] == "deeplift/forward"].assign(
        ranking="deeplift/forward (random weights)", value=0.5
    )
    parts = {"pruning/curves.parquet": pd.concat([curves, matched, null])}
    table = control_ranking_table(RunFiles.read(write_run(tmp_path, parts, n_genes=60)))
    assert table is not None
    rows = {row[0]: row for row in table.rows}
    assert [*rows] == [
        *("deeplift/forward", "deeplift/forward (random weights)", "random", "random_matched"),
        *("hvg", "deg", "expression"),
    ]
    assert rows["random_matched"][2] == "0.625 (0.625 to 0.625 in 10 draws)"
    assert "[" in rows["hvg"][2] and "grad_x_delta/forward" not in rows
    assert table.headings[2:] == (
        "Balanced accuracy, best 5 % kept ↑",
        "Balanced accuracy, best 2 % removed ↓",
    )


def test_without_a_control_there_is_no_table(tmp_path: Path) -> None:
    own = curves_table()
    own = own[own["ranking"] == "deeplift/forward"]
    run = RunFiles.read(write_run(tmp_path, {"pruning/curves.parquet": own}, n_genes=60))
    assert control_ranking_table(run) is None
