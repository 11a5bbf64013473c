"""Both benchmarks from the command line at toy size: processes of their own, files, table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from gradgene.commands.main import main

pytestmark = pytest.mark.slow

DATA = (
    "cells=400 shards=4 genes=150 genes_per_cell=25 batch_tokens=2000 fetch_cells=128 "
    "block_cells=8 tokenise_cells=40 tokenise_genes=60 tokenise_batch=16 loop_cells=10"
).split()
TRAINING = (
    "steps=3 warm_up=1 batch_size=8 genes_per_cell=12 repeats=1 threads=1 variants=false".split()
)


def run(name: str, folder: Path, *words: str) -> dict[tuple[str, str], dict[str, object]]:
    """Figures by (part, figure)."""
    assert main(["benchmark", name, *words, f"output_dir={folder}"]) == 0
    found = json.loads((folder / "benchmark.json").read_text())
    assert found["benchmark"] == name and found["settings"]["output_dir"] == str(folder)
    assert found["machine"]["seed"] == 0 and found["machine"]["device"] == "cpu"
    table = pd.read_csv(folder / "figures.csv")
    assert list(table["figure"]) == [f["figure"] for f in found["figures"]]
    return {(f["part"], f["figure"]): f for f in found["figures"]}


def test_benchmark_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = tmp_path / "shards"
    folder = tmp_path / "out"
    figures = run("data", folder, *DATA, "workers=1", f"folder={shards}")
    assert figures["streaming", "cells missed, repeated"]["value"] == 0
    assert figures["streaming", "peak resident memory"]["met"] is True
    assert list(shards.iterdir()) == []
    assert pd.read_csv(folder / "memory.csv")["cells"].iloc[-1] == 400
    said = capsys.readouterr().out
    assert "benchmark data" in said and "tokenising" in said and str(folder) in said


def test_benchmark_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = run("training", tmp_path, *TRAINING)
    assert figures["lightning / transformers", "losses differ by"]["met"] is True
    for part in ("lightning", "transformers"):
        assert figures[part, "peak resident memory"]["value"] > 0  # type: ignore[operator]
    assert set(pd.read_csv(tmp_path / "steps.csv")["arm"]) == {"lightning", "transformers"}
    assert "benchmark training" in capsys.readouterr().out
