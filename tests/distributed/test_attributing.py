"""`gradgene attribute` in two processes: the tables of one, one set of files, one error."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.main import main
from gradgene.store import read_pair_scores
from tests.distributed.forking import run_ranks
from tests.distributed.test_two_processes import environment
from tests.forked import PATIENCE_S
from tests.integration.tiny import progress, read, words, write_cells

pytestmark = pytest.mark.slow

#: An odd number of pairs, two of most inputs, in several batches.
MORE = (
    *("pairs.max_pairs=11", "pairs.per_cell=2", "pairs.max_training_pairs=7"),
    *("attribution.batch_tokens=150", "attribution.save=pairs", "study.compare=[grad_x_delta]"),
    *("ranking.by=cell_type", "ranking.n_null=20"),
)
QUOTIENTS = ("p", "p_adjusted", "p_null", "relative_delta", "depth_correlation", "explained_share")
TABLES = ("genes", "pairs", "rankings", "genes_by_label", "rankings_by_label", "donors")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cells."""
    return write_cells(tmp_path_factory.mktemp("cells") / "cells.h5ad")


@pytest.fixture(scope="module")
def trained(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *words(cells, folder)]) == 0
    return folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def alone(cells: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process finds."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main(line(cells, folder, trained)) == 0
    return folder


def line(cells: Path, folder: Path, checkpoint: Path, *more: str) -> list[str]:
    """Words of an attribution with a model from elsewhere."""
    return ["attribute", *words(cells, folder, f"checkpoint.path={checkpoint}", *MORE, *more)]


def started(command: list[str]) -> subprocess.Popen[str]:
    """A command with one thread a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "gradgene", *command],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same_tables(alone: Path, shared: Path) -> None:
    """All tables, numbers within 1e-6; quotients, where a float32's last digit shows, 1e-4."""
    files, theirs = (
        sorted(f.relative_to(folder) for f in folder.rglob("*.parquet") if f.parent.name != "pairs")
        for folder in (alone, shared)
    )
    assert files == theirs and len(files) > len(TABLES)
    for file in files:
        tables = [pd.read_parquet(folder / file) for folder in (alone, shared)]
        quotients = [c for c in tables[0] if c in QUOTIENTS]
        for table in tables:  # of two trainers, so of two keys
            table.drop(columns="config_hash", errors="ignore", inplace=True)
        one, other = tables
        assert_close(one[quotients], other[quotients], 1e-4)
        assert_close(one.drop(columns=quotients), other.drop(columns=quotients), 1e-6)


def assert_close(one: pd.DataFrame, other: pd.DataFrame, atol: float) -> None:
    """Labels equal, numbers close."""
    rtol = atol if atol > 1e-6 else 0.0
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=rtol, atol=atol)


def scores(folder: Path) -> pd.DataFrame:
    """Scores of single pairs, in order."""
    found = read_pair_scores(folder / "attributions" / "pairs")
    assert found.n_pairs == 11
    return pd.concat(found.frames()).sort_values(["pair", "gene"]).reset_index(drop=True)


def test_two_processes_give_the_tables_of_one(
    cells: Path, trained: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    said = run_ranks(2, *line(cells, folder, trained, "trainer=ddp_cpu"))
    assert said.count("deeplift: 11 pairs of test cells") == 1
    assert [stage["stage"] for stage in progress(folder)] == ["attribute"]
    assert_same_tables(alone, folder)
    assert not list(folder.rglob("*.tmp")) and not (folder / "attributions/.progress").exists()
    pairs = folder / "attributions" / "pairs"
    assert {f.name[:8] for f in pairs.glob("part-*")} == {"part-000", "part-001"}
    assert not list(pairs.glob("manifest-*"))
    assert_close(scores(folder), scores(alone), 1e-6)
    spread = read(folder, "attributions/genes")["between_baseline_variance"]
    assert spread.notna().any()
    np.testing.assert_allclose(
        spread, read(alone, "attributions/genes")["between_baseline_variance"], atol=1e-9
    )


def test_an_error_in_one_process_ends_both_with_one_line(
    cells: Path, trained: Path, alone: Path, tmp_path: Path
) -> None:
    """A gene that only pairs of the second process show has no embedding."""
    mine = read_pair_scores(alone / "attributions" / "pairs")
    shown = pd.concat(mine.frames())
    n_pairs = shown.groupby("gene")["pair"].nunique()
    gene = str(n_pairs.idxmin())
    content = torch.load(trained, weights_only=True)
    vocabulary = load_checkpoint(trained).vocabulary
    row = vocabulary.gene_offset + vocabulary.genes.index(gene)
    content["state_dict"]["model.identity_embedding.weight"][row] = float("nan")
    torch.save(content, tmp_path / "bad.ckpt")
    folder = tmp_path / "run"
    process = started(line(cells, folder, tmp_path / "bad.ckpt", "trainer=ddp_cpu"))
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2, error
    told = [text for text in error.splitlines() if text.startswith("gradgene: error: ")]
    assert len(told) == 1 and "has no finite scores" in told[0], error
    assert "Traceback" not in error
    skip = line(
        cells, folder, tmp_path / "bad.ckpt", "trainer=ddp_cpu", "attribution.on_error=skip"
    )
    run_ranks(2, *skip)
    left_out = read(folder, "attributions/skipped_pairs")
    of_test = left_out[(left_out["split"] == "test") & (left_out["method"] == "deeplift")]
    assert of_test["pair"].tolist() == sorted(shown.loc[shown["gene"] == gene, "pair"].unique())


def test_killed_and_given_again(cells: Path, trained: Path, alone: Path, tmp_path: Path) -> None:
    """Only the main process is killed; the other ends by itself."""
    folder = tmp_path / "run"
    more = ("trainer=ddp_cpu", "attribution.keep_every_s=0")
    command = line(cells, folder, trained, *more)
    kept = folder / "attributions" / ".progress"
    process = started(command)
    until = time.monotonic() + PATIENCE_S
    while not any(kept.rglob("rank-1.safetensors")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    _, said = process.communicate(timeout=PATIENCE_S)  # until the other closes its pipes as well
    assert process.returncode == -signal.SIGKILL, said
    assert not (folder / "progress.jsonl").exists(), "too late for the test"
    assert any(kept.rglob("rank-1.safetensors"))
    run_ranks(2, *command)
    assert_same_tables(alone, folder)
    assert_close(scores(folder), scores(alone), 1e-6)
