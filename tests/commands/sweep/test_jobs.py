"""Jobs of a sweep note how they ended, wherever they ran, and the end tells of all of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from gradgene.commands import main
from gradgene.commands.config import hydra_errors
from gradgene.commands.sweep.jobs import (
    ENDED_SILENTLY,
    NOT_STARTED,
    Outcome,
    Outcomes,
    differing,
    tell,
    write_csv,
)

TOY = "experiment=toy"
#: A command that ends as its seed says, in whatever process it runs.
COMMAND = '''"""Ends as its seed says."""
import json, os, signal, time
from gradgene.errors import PairError


def run(cfg, options, output_dir):
    seed = cfg.study.seed
    if seed == 1:
        raise PairError("no pairs", where="study.match_on")
    if seed == 2:
        raise ValueError("a bug")
    if seed == 3:
        other = output_dir.parent / ".jobs" / "0.json"
        while not (other.is_file() and '"done"' in other.read_text()):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 4:
        raise KeyboardInterrupt
    if not options.dry_run:
        text = json.dumps({"val/loss": float(seed), "val/accuracy": None, "cwd": os.getcwd()})
        (output_dir / "metrics.json").write_text(text)
'''


@pytest.fixture
def sweep(
    conf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `study -m experiment=toy …` of the command above; returns exit code, stdout, stderr."""
    (conf.parent / "ending.py").write_text(COMMAND)
    (conf / "sweep").mkdir()
    (conf / "sweep/seeds.yaml").write_text(
        "# @package _global_\n# Seeds.\nhydra: {sweeper: {params: {study.seed: '5,6'}}}\n"
    )
    monkeypatch.syspath_prepend(str(conf.parent))
    monkeypatch.setenv("PYTHONPATH", str(conf.parent), prepend=":")  # for other processes
    monkeypatch.setitem(main.COMMANDS, "study", ("ending", "ends"))

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main.main(["study", "-m", TOY, *words])
        return code, *capsys.readouterr()

    return call


def jobs(folder: Path) -> list[dict[str, str]]:
    """Rows of `jobs.csv`."""
    with (folder / "jobs.csv").open(newline="") as stream:
        return [*csv.DictReader(stream)]


def test_of_two_failures_both_are_told_and_the_others_are_done(sweep, conf):
    code, out, err = sweep("study.seed=1,5,2,6", "sweep.objective=val/loss")
    assert code == 1
    rows = jobs(conf.parent / "runs/toy")
    assert [(r["job"], r["status"], r["objective"]) for r in rows] == [
        ("0", "failed", ""),
        ("1", "done", "5.0"),
        ("2", "failed", ""),
        ("3", "done", "6.0"),
    ]
    assert (
        rows[0]["error"] == "study.match_on: no pairs" and rows[2]["error"] == "ValueError: a bug"
    )
    assert rows[1]["overrides"] == "study.seed=5" and rows[1]["folder"] == "study.seed=5"
    assert float(rows[1]["seconds"]) >= 0 and rows[0]["folder"] == ""
    assert out.startswith("a sweep of 4 jobs\njob 0 (study.seed=1)\njob 1 (study.seed=5)\n")
    assert "2 of 4 jobs done, 2 failed" in out and "job 1, study.seed=5: 5" in out
    assert err.splitlines()[0] == "gradgene: job 0 (study.seed=1) failed: study.match_on: no pairs"
    assert "Traceback" in err and "job 2: ValueError: a bug" in err.splitlines()[-1]
    kept = conf.parent / "runs/toy/.jobs/2.traceback.txt"
    assert 'raise ValueError("a bug")' in kept.read_text() and str(kept) in err


def test_a_failure_of_the_user_ends_with_2(sweep):
    code, out, err = sweep("study.seed=1,5")
    assert code == 2 and "Traceback" not in err
    assert "1 of 2 jobs failed" in err.splitlines()[-1] and "no pairs" in err.splitlines()[-1]
    assert "best by" not in out


def test_the_same_sweep_again_replaces_what_was_noted(sweep, conf):
    assert sweep("study.seed=1,2,5")[0] == 1
    assert sweep("study.seed=5,6")[0] == 0
    folder = conf.parent / "runs/toy"
    assert [row["status"] for row in jobs(folder)] == ["done", "done"]
    assert sorted(f.name for f in (folder / ".jobs").iterdir()) == ["0.json", "1.json"]


def test_ctrl_c_tells_what_is_there(sweep, conf):
    code, out, err = sweep("study.seed=5,4,6")
    assert code == 130 and err.endswith("resumes\n")
    assert "1 of 3 jobs done, 2 failed" in out
    assert [row["error"] for row in jobs(conf.parent / "runs/toy")] == [
        "",
        "interrupted",
        NOT_STARTED,
    ]


def test_a_dry_run_leaves_no_table(sweep, conf):
    code, out, _ = sweep("study.seed=5,1", "--dry-run", "sweep.objective=val/loss")
    assert code == 2 and "1 of 2 jobs planned, 1 failed" in out
    assert not [f for f in (conf.parent / "runs").rglob("*") if f.is_file()]


def test_a_figure_that_is_not_there_names_those_that_are(sweep, conf):
    code, _, err = sweep("study.seed=5,6", "sweep.objective=val/los")
    assert code == 2 and "sweep.objective" in err and "one of 'val/loss'" in err
    assert "is no number" in sweep("study.seed=5,6", "sweep.objective=val/accuracy")[2]


def test_a_figure_that_only_the_leaf_names_may_be_missing(sweep, conf):
    seeds = "hydra: {sweeper: {params: {study.seed: '5,6'}}}"
    leaf = f"# @package _global_\nsweep: {{objective: %s}}\n{seeds}\n"
    (conf / "sweep/mine.yaml").write_text(leaf % "pruning/x")
    code, out, _ = sweep("sweep=mine")
    assert code == 0 and "not compared: no job has made pruning/x" in out
    assert sweep("sweep=mine", "sweep.objective=pruning/x")[0] == 2, "what one asks for oneself"
    (conf / "sweep/mine.yaml").write_text(leaf % "val/loss")
    assert "best by val/loss (minimize): job 0" in sweep("sweep=mine")[1]


@pytest.mark.parametrize("width", [80, 160])
def test_a_long_error_leaves_room_for_the_jobs(width):
    stream, error = io.StringIO(), "study.match_on: " + "no pairs at all; " * 8
    words = ("attribution=integrated_gradients", "baseline=cell_state")
    outcomes = [
        Outcome(0, (*words, "study.seed=0"), "x", "failed", seconds=1.5, error=error),
        Outcome(1, (*words, "study.seed=1"), "x", "done", 0.25, 2.5),
    ]
    assert len(error) > 150
    tell(outcomes, "val/x", "maximize", Console(file=stream, width=width, force_terminal=True))
    said = stream.getvalue()
    rows = [re.sub(r"\x1b\[[0-9;]*m|[│ ]+", " ", line).split() for line in said.splitlines()]
    assert ["0", "0", "failed", "1.5"] in rows and ["1", "1", "done", "0.25", "2.5"] in rows
    assert f"job 0 (study.seed=0): {error}" in said.splitlines()


def test_no_number_is_not_the_best():
    said = io.StringIO()
    outcomes = [Outcome(i, (f"a={i}",), "x", "done", v) for i, v in enumerate((float("nan"), 0.7))]
    tell(outcomes, "val/loss", "minimize", Console(file=said, width=100))
    assert "best by val/loss (minimize): job 1" in said.getvalue()


@pytest.mark.parametrize("more", [(), ("sweep.direction=minimize",)])
def test_less_may_be_better(sweep, more):
    """Of a loss it is, without a word."""
    _, out, _ = sweep("study.seed=5,6", "sweep.objective=val/loss", *more)
    assert "best by val/loss (minimize): job 0, study.seed=5: 5" in out


@pytest.mark.parametrize("word", ["sweep=seeds", "+sweep=seeds"])
def test_a_leaf_is_chosen_with_or_without_plus(sweep, conf, word):
    assert sweep(word)[0] == 0
    assert [row["overrides"] for row in jobs(conf.parent / "runs/toy")] == [
        "study.seed=5",
        "study.seed=6",
    ]
    assert sweep(word, "study.seed=7,8,9")[0] == 0
    assert [row["folder"] for row in jobs(conf.parent / "runs/toy")] == [
        "study.seed=7",
        "study.seed=8",
        "study.seed=9",
    ]


def test_folders_are_named_after_what_differs(sweep, conf):
    assert sweep("sweep=seeds", "study.donor=patient", "study.match_on=[cell type]")[0] == 0
    folders = {f.name for f in (conf.parent / "runs/toy").iterdir() if f.is_dir()}
    assert folders == {".jobs", "study.seed=5", "study.seed=6"}
    assert sweep("study.seed=5", "study.donor=patient")[0] == 0  # nothing differs: as ever
    assert (conf.parent / "runs/toy/study.donor=patient,study.seed=5").is_dir()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-m", "sweep=seeds,seeds"), ["sweep:", "itself", "sweep=[seeds,seeds]"]),
        (("-m", "sweep=sedes"), ["sweep:", "'seeds'"]),
        (("sweep=seeds",), ["sweep=seeds", "add -m"]),
        (("+sweep=seeds",), ["add -m"]),
        (("hydra.mode=MULTIRUN", "study.seed=1,2"), ["hydra.mode", "add -m"]),
        (("-m", "experiment=toy,other"), ["experiment:", "one folder", "${study.name}"]),
        (("-m", "study.seed=interval(0,1)"), ["study.seed:", "hydra/sweeper=optuna"]),
        (("-m", "study.seed=1,2", "hydra/launcher=absent"), ["hydra/launcher/absent"]),
        (("-m", "study.seed=1,1"), ["study.seed=1", "twice"]),
        (("-m", "study.seed=1,2", "--cfg", "job"), ["leave out -m"]),
    ],
)
def test_refusals(sweep, conf, capsys, words, says):
    (conf / "experiment/other.yaml").write_text((conf / "experiment/toy.yaml").read_text())
    assert main.main(["study", TOY, *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(text in err for text in says), err


def test_a_launcher_that_is_not_installed_names_the_extra(sweep, monkeypatch):
    monkeypatch.setitem(hydra_errors._PLUGINS, "absent", ("hydra-absent-launcher", "clusters"))
    code, _, err = sweep("study.seed=5,6", "hydra/launcher=absent")
    assert code == 2 and err.count("\n") == 1
    assert "needs hydra-absent-launcher" in err and "pip install 'gradgene[clusters]'" in err


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_in_other_processes_end_alike(sweep, conf, launcher):
    more = ("hydra.launcher.n_jobs=2",) if launcher == "joblib" else ()
    code, out, err = sweep(
        "study.seed=1,5,2", "sweep.objective=val/loss", f"hydra/launcher={launcher}", *more
    )
    assert code == 1 and "1 of 3 jobs done, 2 failed" in out
    folder = conf.parent / "runs/toy"
    assert [row["status"] for row in jobs(folder)] == ["failed", "done", "failed"]
    assert jobs(folder)[1]["objective"] == "5.0"
    assert "a bug" in (folder / ".jobs/2.traceback.txt").read_text() and "a bug" in err
    metrics = json.loads((folder / "study.seed=5/metrics.json").read_text())
    assert metrics["cwd"] == str(conf.parent)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_job_that_is_killed_is_told(sweep, conf, monkeypatch, launcher):
    # A quarter of a minute to look for the results of a job that has ended without any.
    monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)
    more = ("hydra.launcher.n_jobs=2",) if launcher == "joblib" else ()
    code, out, err = sweep("study.seed=5,3", f"hydra/launcher={launcher}", *more)
    assert code == 1 and "1 of 2 jobs done, 1 failed" in out
    assert [row["error"] for row in jobs(conf.parent / "runs/toy")] == ["", ENDED_SILENTLY]
    assert "without a word" in err.splitlines()[-1]


def test_what_was_never_noted_was_not_started(tmp_path):
    outcomes = Outcomes(tmp_path / ".jobs")
    outcomes.write(Outcome(2, ("a=1",), str(tmp_path / "x"), "started"))
    outcomes.write(Outcome(0, ("a=2",), str(tmp_path / "y"), "done", 0.5, 1.0))
    final = outcomes.final([("a=2",), ("a=3",), ("a=1",)])
    assert [(o.job, o.error) for o in final] == [(0, ""), (1, NOT_STARTED), (2, ENDED_SILENTLY)]
    assert not any(o.is_users for o in final)
    assert len(outcomes.final(None)) == 2
    write_csv(final, tmp_path)
    assert [row["folder"] for row in jobs(tmp_path)] == ["y", "", "x"]


def test_only_what_differs_is_shown():
    def job(number: int, *words: str) -> Outcome:
        return Outcome(number, words, "", "done")

    assert differing([job(0, "a=1", "b=2"), job(1, "a=1", "+b=3", "c=4")]) == [
        {"b": "2"},
        {"b": "3", "c": "4"},
    ]
    assert differing([job(0, "a=1")]) == [{"a": "1"}]
    assert differing([]) == []


def test_labels_with_brackets_are_printed_as_they_are():
    stream = io.StringIO()
    outcomes = [
        Outcome(0, ("study.input=[red]",), "", "done", 1.0),
        Outcome(1, ("study.input=b",), "", "failed", error="where: [what]"),
    ]
    tell(outcomes, "val/x", "maximize", Console(file=stream, width=120))
    said = stream.getvalue()
    assert "[red]" in said and "where: [what]" in said and "val/x" in said
