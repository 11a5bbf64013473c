"""By what runs are compared: the right figure of the right ranking, and nothing made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradgene.reports import RunFiles, run_measures
from tests.reports.synthetic import CONFIG, METRICS, summary_table, write_run


def test_what_a_run_is_judged_by(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path))
    found = {measure.title: measure for measure in run_measures(run)}
    assert list(found) == [
        "Balanced accuracy of the model",
        "Known genes of the best 30",
        "Area to random, least important first",
        "Area to random, most important first",
        "Balanced accuracy on the best 5 %",
        "Balanced accuracy without the best 2 %",
        "Relative delta, median",
        "Relative delta, 99 %",
    ]
    assert found["Balanced accuracy of the model"].value == 0.957
    assert np.isnan(found["Balanced accuracy of the model"].low)
    # Of deeplift, which the run is about, and not of the rankings beside it.
    assert found["Known genes of the best 30"].value == 19
    # Of the main method, though grad_x_delta has some too.
    assert found["Relative delta, 99 %"].value == 5.2e-7
    area = found["Area to random, least important first"]
    assert (area.value, area.low, area.high) == pytest.approx((0.095, 0.045, 0.145))
    assert run.curves is not None
    at = run.curves[(run.curves["ranking"] == "deeplift/forward") & (run.curves["ratio"] == 0.95)]
    kept = found["Balanced accuracy on the best 5 %"]
    assert (kept.value, kept.low) == (at["value"].iloc[0], at["ci_low"].iloc[0])


def test_the_objective_comes_first_and_once(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path))
    titles = [measure.title for measure in run_measures(run, "test/contrast_balanced_accuracy")]
    assert titles[0] == "test/contrast_balanced_accuracy"
    assert "Balanced accuracy of the model" not in titles
    assert next(iter(run_measures(run, "no such figure"))).title.startswith("Balanced")


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    metrics = {**METRICS, "test/contrast_balanced_accuracy": float("nan")}
    folder = write_run(
        tmp_path,
        {"metrics.json": metrics, "pruning/curves.parquet": None, "pruning/summary.parquet": None},
    )
    titles = [measure.title for measure in run_measures(RunFiles.read(folder))]
    deltas = ["Relative delta, median", "Relative delta, 99 %"]
    assert titles == ["Known genes of the best 30", *deltas]


def test_chance_has_no_area_to_itself(tmp_path: Path) -> None:
    summary = summary_table().replace({"ranking": {"hvg": "random"}})
    config = {**CONFIG, "ranking": {"kind": "random"}}
    write_run(tmp_path, {"config.yaml": config, "pruning/summary.parquet": summary})
    titles = [measure.title for measure in run_measures(RunFiles.read(tmp_path))]
    assert "Balanced accuracy on the best 5 %" in titles
    assert not [title for title in titles if title.startswith("Area")]
