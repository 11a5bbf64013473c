"""Two processes measure what one does, and share out the cells without a gap or a repeat."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.main import main
from tests.conftest import REPOSITORY
from tests.distributed.forking import run_program
from tests.forked import PATIENCE_S
from tests.integration.test_pretrain import history, line
from tests.integration.tiny import progress
from tests.planted import make_adata

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("processes.py")
N_CELLS = 203  # shared by no number of processes or cells of a batch


def environment() -> dict[str, str]:
    """Of a program that runs this repository's code with one thread a process."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"}
    return {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")} | own


def run(*command: object) -> str:
    """Run a program with one thread a process; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planted cells, each with other genes."""
    file = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    make_adata(N_CELLS, 60).write_h5ad(file)
    return file


@pytest.fixture(scope="module")
def written(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what the processes of all runs wrote."""
    folder = tmp_path_factory.mktemp("processes")
    run_program(PROGRAM, cells, folder)
    return folder


@pytest.fixture(scope="module", params=["pretraining", "study"])
def seen(request: pytest.FixtureRequest, written: Path) -> dict[int, list[dict[str, Any]]]:
    """Number of processes -> what each of them wrote."""
    return {
        n: [
            json.loads((written / f"{request.param}{n}" / f"rank{r}.json").read_text())
            for r in range(n)
        ]
        for n in (1, 2, 3)
    }


def test_the_validation_of_several_processes_is_that_of_one(
    seen: dict[int, list[dict[str, Any]]],
) -> None:
    (alone,) = seen[1]
    assert "val/loss" in alone["metrics"] and len(alone["metrics"]) > 3
    for n in (2, 3):
        for rank in seen[n]:
            assert rank["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)


def test_every_cell_is_seen_once(seen: dict[int, list[dict[str, Any]]]) -> None:
    (alone,) = seen[1]
    for part in ("train", "validation"):
        expected = Counter(alone[part])
        assert set(expected.values()) == {1}
        for n in (2, 3):
            shares = [rank[part] for rank in seen[n]]
            assert Counter(cell for share in shares for cell in share) == expected
            if part == "train":
                assert max(map(len, shares)) - min(map(len, shares)) < 0.5 * max(map(len, shares))
    assert len(alone["train"]) + len(alone["validation"]) < N_CELLS  # d3 is held out


def test_processes_take_the_same_steps_and_have_the_same_weights(
    seen: dict[int, list[dict[str, Any]]],
) -> None:
    for n in (2, 3):
        assert len({rank["steps"] for rank in seen[n]}) == 1
        assert len({rank["weights"] for rank in seen[n]}) == 1
        assert seen[n][0]["steps"] < seen[1][0]["steps"]


def test_pretraining_in_two_processes_leaves_one_run(cells: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    more = ("trainer=ddp_cpu", "data.holdout_donors=[d3]", "data.epochs=2")
    said = run("-m", "gradgene", *line(cells, folder, *more))
    assert said.count("best after step") == 1 and said.count("to train on") == 1
    assert [stage["stage"] for stage in progress(folder)] == ["pretrain"]
    steps = [v["step"] for v in history(folder) if "train/loss" in v]
    assert steps == [*range(1, len(steps) + 1)]
    assert load_checkpoint(folder, "folder").trained_on == ("d0", "d1", "d2")
    assert not list(folder.rglob("*.tmp"))


def test_a_model_shared_out_is_the_whole_model() -> None:
    """FSDP with the settings of trainer=fsdp; through Lightning it needs GPUs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_program(PROGRAM.with_name("sharding.py"), port)


def test_a_sweep_is_for_one_process(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("trainer=ddp_cpu", "study.seed=0,1", "data.holdout_donors=[d3]")
    assert main([*line(cells, tmp_path / "run", *more), "-m"]) == 2
    assert "sweep" in capsys.readouterr().err
