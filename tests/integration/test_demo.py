"""The bundled demonstration in small, and the experiment tracker without an account."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradgene.attribution import METHODS
from gradgene.commands.main import main
from tests.forked import Forked
from tests.integration.notebooks import run_notebook
from tests.integration.tiny import QUICK, contents, progress, read, words
from tests.wandb_files import offline_runs

pytestmark = pytest.mark.slow

DEMO = (
    "experiment=demo finetune.max_epochs=1 pairs.max_pairs=4 pairs.max_training_pairs=4 "
    "pruning=short_grid pruning.rankings=main pruning.n_random=1 logger=none"
).split()


@dataclass
class Demo:
    """Where the demonstration was started, and what it printed."""

    start: Path
    said: str

    @property
    def folder(self) -> Path:
        return self.start / "runs" / "demo"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demonstration, run from an arbitrary folder without network."""
    start, said = tmp_path_factory.mktemp("anywhere"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(start)
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.setenv(variable, "http://127.0.0.1:9")
        assert main(["study", *DEMO]) == 0
    return Demo(start, said.getvalue())


def test_demo_runs_from_anywhere_without_network(demo):
    folder = demo.folder
    stages = [stage["stage"] for stage in progress(folder)]
    assert stages == ["train", "attribute", "prune", "evaluate"]
    files = set(contents(folder))
    assert {"report.html", "metrics.json", "checkpoints/best.ckpt"} <= files
    assert not [f for f in files if f.endswith(".tmp")]
    table = read(folder, "attributions/genes")
    assert set(table["method"]) == {"deeplift"} and len(table) > 300
    assert table["n_donors"].isna().all(), "these cells have no donors"
    ledger = read(folder, "attributions/pairs")
    assert len(ledger) == 4 and ledger["donor_input"].isna().all()
    assert len(read(folder, "attributions/grad_x_delta/pairs")) == 4
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["pruning/chance"] == pytest.approx(0.1)
    assert "top genes" in demo.said and "area against random" in demo.said
    report = json.loads((folder / "data_report.json").read_text())
    assert report["n_cells_kept"] == 700 and "No donor column" in " ".join(report["notes"])
    assert "left out, drawn anew in every epoch" in " ".join(report["notes"])
    assert "No donor column" in (folder / "report.html").read_text()


def test_the_quickstart_notebook_runs_on_the_demo(demo, monkeypatch):
    monkeypatch.chdir(demo.start)
    names = run_notebook("01_quickstart.ipynb")
    learnt, test = set(names["loaded"].trained_on), set(names["test"].obs.index)
    assert learnt and test and learnt.isdisjoint(test), "the split of the demo's training"
    deltas = names["result"].forward.relative_delta_p
    assert len(deltas) == 20 and deltas.max() <= 1e-3
    table, curve = names["table"], names["curve"]
    assert len(table.top(20)) == 20 and set(table.top(20)) <= set(names["cells"].genes)
    assert set(curve.frame["ranking"]) == {"deeplift/table", "random"}
    assert set(curve.frame["ratio"]) == {0, 0.05, 0.5, 0.8, 0.9}


def test_the_notebook_of_methods_runs_on_the_demo(demo, monkeypatch):
    monkeypatch.chdir(demo.start)
    names = run_notebook("02_methods_side_by_side.ipynb")
    table, scores = names["table"], names["scores"]
    assert set(table.index) == set(scores) == set(METHODS)
    assert table.loc["deeplift", "relative delta"] <= 1e-3
    assert names["steps"].loc[100, "integrated_gradients"] <= 1e-3
    assert list(scores.index) == names["genes"]
    assert scores.notna().all(axis=None)


def test_weights_and_biases_is_offline_without_a_key(cells_file, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    line = [w for w in words(cells_file, folder, *QUICK) if w != "logger=none"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    monkeypatch.chdir(tmp_path)
    done = Forked(
        *("-m", "gradgene", "study", *line, "logger=wandb"),
        environment=environment | {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")},
    )
    assert done.wait() == 0, done.error
    assert "api_key" not in done.said + done.error
    runs = {run.stage: run for run in offline_runs(folder)}
    assert [*runs] == ["train", "attribute", "prune", "evaluate", "report"]
    assert {run.exit_code for run in runs.values()} == {0}
    assert list((runs["report"].files / "media/images/figures").glob("*.png"))
    assert not (tmp_path / "wandb").exists(), "nothing outside the run's folder"
    assert "wandb" not in done.said + done.error, "and nothing on the terminal"
    assert (folder / "report.html").is_file()
