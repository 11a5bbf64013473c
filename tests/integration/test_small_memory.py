"""A study on a machine of little memory: the same tables, and one line where nothing helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.commands.main import main
from gradgene.commands.run.company import Company
from gradgene.lit import AttributionCollector
from tests.integration.tiny import QUICK, progress, read, run_all_stages, words
from tests.small_memory import SmallMemory

pytestmark = pytest.mark.usefixtures("small_heap")

COMPARED = ("study.compare=[grad_x_delta]", "attribution.batch_tokens=150")


@pytest.fixture(autouse=True)
def every_run_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run has done would not be done again in little memory."""
    monkeypatch.setenv("GRADGENE_CACHE", "")


@pytest.fixture(scope="module")
def whole(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for which memory sufficed, not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_all_stages(cells_file, folder, *QUICK, *COMPARED)
    return folder


def explaining(whole: Path, data: Path, folder: Path, *more: str) -> list[str]:
    """Words of an attribution or pruning with the model of that run."""
    checkpoint = whole / "checkpoints" / "best.ckpt"
    return words(data, folder, *QUICK, *COMPARED, f"checkpoint.path={checkpoint}", *more)


def assert_same(folder: Path, whole: Path, tables: tuple[str, ...]) -> None:
    """Equal but for rounding, in every column that is of the results."""
    for table in tables:
        one, other = (
            read(f, table).drop(columns=OF_THE_RUN, errors="ignore") for f in (folder, whole)
        )
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=2e-6, obj=table)


#: What differs because the model is named by another path, or is rounding and nothing else.
OF_THE_RUN = ["model", "config_hash", "relative_delta"]
TABLES = (
    *("attributions/genes", "attributions/pairs", "attributions/grad_x_delta/genes"),
    "attributions/rankings",
)


def test_the_same_tables_and_what_is_told(
    whole: Path,
    cells_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory = SmallMemory(monkeypatch, 80)
    line = explaining(whole, cells_file, tmp_path)
    assert main(["attribute", *line]) == 0
    said = " ".join(capsys.readouterr().out.split())
    plan = json.loads((tmp_path / "attributions" / "plan.json").read_text())
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (stage,) = progress(tmp_path)
    assert memory.failed and max(memory.done) <= 80
    for method in ("deeplift", "grad_x_delta"):
        fitted = plan[method]["test"]["fitting_tokens"]
        assert 1 <= fitted <= 80 < plan[method]["test"]["batch_tokens"] == 150
        assert metrics[f"attribution/{method}/batch_tokens"] == fitted
        assert stage["fitting_tokens"][method] == fitted
        told = f"{method}: batches of 150 tokens did not fit in memory; done with {fitted} at a"
        assert said.count(told) in (1, 2), "once a split"
    assert_same(tmp_path, whole, TABLES)
    undisturbed = json.loads((whole / "metrics.json").read_text())
    assert undisturbed["attribution/deeplift/batch_tokens"] == 150
    assert not any("fitting_tokens" in stage for stage in progress(whole))
    assert main(["prune", *line]) == 0
    found, expected = (read(f, "pruning/curves") for f in (tmp_path, whole))
    np.testing.assert_allclose(found["value"], expected["value"], atol=1e-5)


def test_broken_off_with_halved_batches_it_goes_on(
    whole: Path, cells_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches stay those planned, so what was kept of halved ones is of the same batches."""
    collected, n_left = AttributionCollector.on_predict_batch_end, [2]
    resumed: list[int] = []
    setup = AttributionCollector.setup

    def breaking(self: Any, *given: Any, **more: Any) -> None:
        collected(self, *given, **more)
        n_left[0] -= 1
        if n_left[0] == 0:
            raise KeyboardInterrupt

    def noting(self: Any, *given: Any, **more: Any) -> None:
        setup(self, *given, **more)
        resumed.append(self.n_resumed)
        assert not self.note

    memory = SmallMemory(monkeypatch, 80)
    line = explaining(whole, cells_file, tmp_path, "attribution.keep_every_s=0")
    with monkeypatch.context() as patch:
        patch.setattr(AttributionCollector, "on_predict_batch_end", breaking)
        assert main(["attribute", *line]) == 130
    assert memory.failed and not (tmp_path / "attributions" / "genes.parquet").exists()
    monkeypatch.setattr(AttributionCollector, "setup", noting)
    assert main(["attribute", *line]) == 0
    assert resumed[0] == 2
    assert_same(tmp_path, whole, TABLES)


@pytest.mark.parametrize("method", ["deeplift", "grad_x_delta"])
def test_a_pair_that_does_not_fit_is_one_line(
    method: str,
    whole: Path,
    cells_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Any,
) -> None:
    SmallMemory(monkeypatch, 8)
    line = explaining(whole, cells_file, tmp_path, f"attribution={method}", "study.compare=[]")
    said = refused("attribute", *line)
    assert f"attribution.method={method}: pair " in said
    assert "does not fit in memory even alone" in said and "tokens together" in said
    assert "input 'cell" in said and "trainer=gpu" in said and "smaller model" in said


def test_tokens_by_memory(
    whole: Path,
    cells_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are told, planned and used, and an interrupted attribution keeps them."""
    import gradgene.commands.attribute.plan as planning

    line = explaining(whole, cells_file, tmp_path, "attribution.batch_tokens=auto")
    monkeypatch.setattr(planning, "free_mb", lambda device: 10.0)  # nothing fits in that
    assert main(["attribute", *line]) == 0
    said = capsys.readouterr().out
    for method in ("deeplift", "grad_x_delta"):
        assert f"{method}: attribution.batch_tokens=auto takes 1024, as 10 MB are free" in said
        plan = json.loads((tmp_path / "attributions" / "plan.json").read_text())
        assert {one["batch_tokens"] for one in plan[method].values()} == {1024}
    assert_same(tmp_path, whole, TABLES)
    (tmp_path / "progress.jsonl").unlink()
    monkeypatch.setattr(planning, "free_mb", lambda device: 10.0**9)
    assert main(["attribute", *line]) == 0
    assert "auto takes" not in capsys.readouterr().out, "what was done is of these batches"
    other = explaining(whole, cells_file, tmp_path / "other", "attribution.batch_tokens=auto")
    # What another process would hear from the main one, which has less memory.
    said_by_main = {"deeplift": 2048, "grad_x_delta": 4096}
    monkeypatch.setattr(
        Company, "agreed", lambda self, own: said_by_main if isinstance(own, dict) else own
    )
    assert main(["attribute", *other]) == 0
    assert "deeplift: attribution.batch_tokens=auto takes 8192" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "other" / "metrics.json").read_text())
    used = {name: metrics[f"attribution/{name}/batch_tokens"] for name in said_by_main}
    assert used == said_by_main


class FailingOnce:
    """Training steps run out of memory for more than so many cells, from a given epoch on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fits: int, epoch: int = 0) -> None:
        from gradgene.lit import PhenotypeModule

        self.sizes: list[int] = []
        step = PhenotypeModule.training_step

        def stepping(module: PhenotypeModule, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(batch) > fits and module.current_epoch >= epoch:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
            self.sizes.append(len(batch))
            return step(module, batch, batch_idx)

        monkeypatch.setattr(PhenotypeModule, "training_step", stepping)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_training_goes_on_with_smaller_batches(
    epoch: int,
    cells_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the last checkpoint, with steps of as many cells: it makes as many steps."""
    more = ("finetune.max_epochs=4", "data.batch_size=16", "model.dropout=0")
    assert main(["train", *words(cells_file, tmp_path / "whole", *more)]) == 0
    failing, folder = FailingOnce(monkeypatch, 8, epoch), tmp_path / "halved"
    capsys.readouterr()
    assert main(["train", *words(cells_file, folder, *more)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    told = "data.batch_size=16 does not fit in memory: going on with data.batch_size=8"
    assert said.count(told) == 1
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train/batch_size"] == 8 and metrics["train/accumulate_grad_batches"] == 2
    (note,) = [
        n for n in json.loads((folder / "data_report.json").read_text())["notes"] if "fit" in n
    ]
    assert "data.batch_size=8 trainer.accumulate_grad_batches=2" in note
    assert progress(folder)[-1]["batch_size"] == 8
    undisturbed = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert undisturbed["train/batch_size"] == 16
    assert undisturbed["train/accumulate_grad_batches"] == 1
    steps, losses = zip(*(of_training(f) for f in (folder, tmp_path / "whole")), strict=True)
    assert steps[0] == steps[1] > 4
    assert len(losses[0]) == 4
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
    assert max(failing.sizes) == (16 if epoch else 8)


def of_training(folder: Path) -> tuple[int, np.ndarray]:
    """Optimiser steps made, and the validation loss after every epoch."""
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    history = pd.read_csv(folder / "training.csv")
    assert history["epoch"].tolist() == [*range(1, len(history) + 1)]
    return int(content["global_step"]), history["val/loss"].to_numpy()


@pytest.mark.parametrize("unit", ["data.batch_size=2", "data.batch_tokens=40"])
def test_a_training_of_single_cells_that_do_not_fit(
    unit: str, cells_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    FailingOnce(monkeypatch, 0)
    said = refused("train", *words(cells_file, tmp_path, unit))
    assert "a training batch of a single cell does not fit in memory" in said
    assert unit.partition("=")[0] in said and "data.train_tokens" in said


def test_a_training_by_tokens_is_halved_by_tokens(
    cells_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FailingOnce(monkeypatch, 8)
    assert main(["train", *words(cells_file, tmp_path, "data.batch_tokens=400")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["train/batch_tokens"] < 400
    accumulated = metrics["train/accumulate_grad_batches"]
    assert metrics["train/batch_tokens"] * accumulated == 400


def test_several_processes_are_refused_in_one_line(
    cells_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    from gradgene.commands.run.workspace import Workspace

    FailingOnce(monkeypatch, 8)
    monkeypatch.setattr(Workspace, "n_processes", 2)
    said = refused("train", *words(cells_file, tmp_path, "data.batch_size=16"))
    assert "several cannot change their batches" in said
    assert "data.batch_size=8 trainer.accumulate_grad_batches=2" in said
