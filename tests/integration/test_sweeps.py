"""Sweeps of the tiny study: launchers, a search, and stages of one sweep on top of another's."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gradgene.commands.main import main
from tests.integration.tiny import QUICK, progress, words

#: A job that fails once its cells are read, beside one that does not.
ONE_FAILS = ("finetune.max_epochs=1", "data.holdout_donors=0.3,[nobody]")


def jobs(folder: Path) -> list[dict[str, str]]:
    """Rows of `jobs.csv`."""
    with (folder / "jobs.csv").open(newline="") as stream:
        return [*csv.DictReader(stream)]


def require_one_of_two(folder: Path) -> None:
    """The first job has trained; the second says what is wrong with it."""
    first, second = jobs(folder)
    assert first["status"] == "done" and 0 <= float(first["objective"]) <= 1
    assert (folder / first["folder"] / "checkpoints/best.ckpt").is_file()
    assert second["status"] == "failed" and "nobody" in second["error"]


def test_a_failing_job_stops_no_other_and_a_rerun_skips_what_is_done(cells_file, tmp_path, capsys):
    folder = tmp_path / "sweep"
    line = ["train", "-m", *words(cells_file, folder, *ONE_FAILS)]
    assert main([*line, "sweep.objective=val/balanced_accuracy"]) == 2
    assert "1 of 2 jobs done, 1 failed" in capsys.readouterr().out
    require_one_of_two(folder)
    assert main([*line, "sweep.objective=val/accuracy"]) == 2
    said = capsys.readouterr().out
    assert said.count("train: done before, skipped") == 1 and "val/accuracy" in said
    (first,) = (f for f in folder.iterdir() if (f / "progress.jsonl").is_file())
    assert first.name == "data.holdout_donors=0.3" and len(progress(first)) == 1


def test_a_dry_run_plans_once_what_jobs_share(cells_file, tmp_path, capsys):
    line = words(cells_file, tmp_path / "sweep", *QUICK, "ranking=attribution,hvg")
    assert main(["study", "-m", "--dry-run", *line]) == 0
    said = capsys.readouterr().out
    assert said.count("shared with job 0") == 2, "training and attribution, not pruning"
    assert "2 of 2 jobs planned" in said and "all jobs in turn: about" in said
    assert "jobs done" not in said and not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_jobs_in_processes_of_their_own(cells_file, tmp_path):
    """Other launchers: tests/commands/sweep."""
    line = words(cells_file, tmp_path / "sweep", *ONE_FAILS, "hydra/launcher=joblib")
    assert main(["train", "-m", *line, "sweep.objective=val/balanced_accuracy"]) == 2
    require_one_of_two(tmp_path / "sweep")


@pytest.mark.slow
def test_a_search_goes_on_after_a_failed_trial_and_names_the_best(cells_file, tmp_path, capsys):
    folder = tmp_path / "search"
    line = words(cells_file, folder, "finetune.max_epochs=1", "sweep=learning_rate")
    assert main(["train", "-m", *line, "hydra.sweeper.n_trials=2"]) == 0
    assert "best by val/balanced_accuracy (maximize)" in capsys.readouterr().out
    best = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    objectives = [float(job["objective"]) for job in jobs(folder)]
    assert len(objectives) == 2 and best["best_value"] == max(objectives)
    rates = [float(job["overrides"].partition("=")[2]) for job in jobs(folder)]
    assert best["best_params"]["finetune.learning_rate"] in rates
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    # Trials without the figure have failed; that of the search itself is not what the user reads.
    assert main(["train", "-m", *line, "hydra.sweeper.n_trials=2", "sweep.objective=val/x"]) == 2
    assert [job["status"] for job in jobs(folder)] == ["failed", "failed"]


@pytest.mark.slow
def test_pruning_stands_on_the_attributions_of_the_same_sweep(cells_file, tmp_path):
    """Folders are named after what differs, so what else is said may be said once."""
    model, folder = tmp_path / "model", tmp_path / "sweep"
    assert main(["train", *words(cells_file, model, "finetune.max_epochs=1")]) == 0
    more = ("attribution=deeplift,grad_x_delta", "baseline=cell_state,empty")
    line = words(cells_file, folder, "finetune.max_epochs=1", *more, *QUICK)
    line += [f"checkpoint.path={model / 'checkpoints/best.ckpt'}"]
    assert main(["attribute", "-m", *line]) == 0
    attributed = [job["folder"] for job in jobs(folder)]
    assert main(["prune", "-m", *line]) == 0
    assert [job["folder"] for job in jobs(folder)] == attributed
    assert attributed[0] == "attribution=deeplift,baseline=cell_state"
    for name in attributed:
        assert [done["stage"] for done in progress(folder / name)] == ["attribute", "prune"]
    tables = [pd.read_parquet(folder / name / "attributions/genes.parquet") for name in attributed]
    methods = {str(method) for table in tables for method in table["method"]}
    assert methods == {"deeplift", "grad_x_delta"}


def test_the_best_epoch_is_in_the_metrics(cells_file, tmp_path):
    folder = tmp_path / "run"
    assert main(["train", *words(cells_file, folder, "finetune.max_epochs=3")]) == 0
    metrics = yaml.safe_load((folder / "metrics.json").read_text())
    history = pd.read_csv(folder / "training.csv")
    best = history.sort_values("val/loss").iloc[0]
    assert metrics["val/loss"] == pytest.approx(best["val/loss"])
    assert metrics["val/balanced_accuracy"] == pytest.approx(best["val/balanced_accuracy"])
    assert metrics["val/epoch"] == best["epoch"]
