"""The page of a sweep as the command writes it: repeats averaged, agreement by what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.commands.main import main
from gradgene.commands.report import command as report
from gradgene.commands.report.page import joined_measures
from gradgene.reports import Measure, RunFiles
from tests.reports.synthetic import CONFIG, METRICS, gene_table, write_run


def seed_run(folder: Path, seed: int, method: str = "deeplift") -> RunFiles:
    study = {**CONFIG["study"], "seed": seed}  # type: ignore[dict-item]
    changes = {
        "config.yaml": {**CONFIG, "study": study},
        "attributions/genes.parquet": gene_table(60, seed=seed, method=method),
    }
    return RunFiles.read(write_run(folder, changes))


def test_repeats_are_averaged_in_the_figure(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path / f"s{i}", i) for i in range(3)]
    runs.append(seed_run(tmp_path / "other", 0, "gim"))
    values = (0.8, 0.9, 0.85, 0.7)
    found = joined_measures(runs, [[Measure("Quality", v, v - 0.1, v + 0.1)] for v in values])
    by_label = found.set_index("label")
    assert list(by_label.index) == ["deeplift", "gim"]
    low, high = stats.ttest_1samp(values[:3], 0).confidence_interval()
    three = by_label.loc["deeplift"]
    assert (three["value"], three["n_runs"]) == (pytest.approx(0.85), 3)
    assert (three["ci_low"], three["ci_high"]) == pytest.approx((low, high))
    # One run keeps the interval over its donors.
    assert by_label.loc["gim", "ci_low"] == pytest.approx(0.6)


def test_runs_without_any_figure(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path / "a", 0)]
    assert joined_measures(runs, [[]]).empty


def test_a_sweep_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    for i, method in enumerate(("deeplift", "gim", "random")):
        seed_run(sweep / str(i), 0, method)
    jobs = {"job": range(4), "overrides": [f"attribution={m}" for m in ("a", "b", "c", "d")]}
    table = pd.DataFrame({**jobs, "folder": [str(sweep / str(i)) for i in range(4)]})
    table = table.assign(
        status=["done"] * 3 + ["failed"],
        objective=np.nan,
        seconds=[10.0, 20.0, 30.0, 1.0],
        error=[""] * 3 + ["<b>out of luck</b>"],
    )
    table.to_csv(sweep / "jobs.csv", index=False)
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr().out
    assert "3 runs" in said and (sweep / "sweep.html").as_uri() in said
    page = (sweep / "sweep.html").read_text()
    assert "3 runs, which differ in method (deeplift, gim, random)." in page
    assert "1 of 4 jobs failed" in page and "&lt;b&gt;out of luck&lt;/b&gt;" in page
    assert f"gradgene report {sweep}" in page
    # The agreement is told by method, since the folders say nothing.
    assert "<td>deeplift</td><td>gim</td>" in page
    for name in ("runs.csv", "rankings.csv", "agreement.csv", "pruning.png", "measures.svg"):
        assert (sweep / name).is_file(), name
    runs: Any = pd.read_csv(sweep / "runs.csv")
    assert list(runs)[:3] == ["run", "method", "Balanced accuracy of the model"]
    assert runs["method"].tolist() == ["deeplift", "gim", "random"]
    assert runs["seconds"].tolist() == [10, 20, 30] and runs["folder"].tolist() == [0, 1, 2]
    low, high = "Balanced accuracy on the best 5 % low", "Balanced accuracy on the best 5 % high"
    assert runs.loc[0, low] < runs.loc[0, low.removesuffix(" low")] < runs.loc[0, high]
    assert "Known genes of the best 30 low" not in runs  # it has no interval
    assert runs["test/macro_f1"].tolist() == [METRICS["test/macro_f1"]] * 3
    # A page elsewhere leads back to the runs.
    (sweep / "0" / "report.html").write_text("")
    out = tmp_path / "else where"
    assert main(["report", str(sweep), f"out={out}"]) == 0
    assert 'href="../sweep/0/report.html"' in (out / "sweep.html").read_text()


def test_the_objective_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "rates"
    for name, value in (("slow", 0.8), ("fast", 0.9)):
        objective = {"objective": "test/balanced_accuracy", "direction": "minimize"}
        config = {**CONFIG, "sweep": objective, "finetune": {"rate": name}}
        metrics = {**METRICS, "test/balanced_accuracy": value}
        write_run(sweep / name, {"config.yaml": config, "metrics.json": metrics})
    (sweep / "multirun.yaml").write_text("")
    assert main(["report", str(sweep)]) == 0
    assert "agreement of the runs" in capsys.readouterr().out
    page = (sweep / "sweep.html").read_text()
    assert "The lowest test/balanced_accuracy is 0.8, of slow." in page
    assert "finetune.rate" in page


def test_a_run_and_what_else_lies_in_the_folder_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study that was run alone before has the same folder, and so has its other sweep."""
    sweep = tmp_path / "sweep"
    seed_run(sweep, 0)
    for name in ("a", "b", "of_another_sweep"):
        seed_run(sweep / name, 0, "gim" if name == "b" else "deeplift")
    jobs = pd.DataFrame({"job": [0, 1], "overrides": ["x=a", "x=b"], "folder": ["a", "b"]})
    jobs.assign(status="done").to_csv(sweep / "jobs.csv", index=False)
    monkeypatch.setattr(report, "write_figures", lambda run: {})
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr().out
    assert "2 runs" in said and (sweep / "sweep.html").as_uri() in said
    # And the report of the run.
    assert (sweep / "report.html").as_uri() in said and (sweep / "report.html").is_file()
    own = [str(f) for f in sorted(sweep.iterdir()) if f.name != "of_another_sweep"]
    assert main(["report", *own]) == 0
    assert "2 runs" in capsys.readouterr().out
