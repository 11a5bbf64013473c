"""Sweeps by the leaves of conf/sweep, run to their end: every job, in small."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from gradgene.commands.main import main
from tests.integration.tiny import QUICK, progress, words

pytestmark = pytest.mark.slow

BASELINES = ("cell_state", "empty", "zero", "mean")
#: Of six, and of seven; the others are made in the same way.
METHODS = ("deeplift", "gradient_shap", "random")
RANKINGS = "attribution deg_pseudobulk hvg_batch random".split()
AREA = "pruning/area/lowest_first/main"


def rows(said: str) -> list[list[str]]:
    """Cells of the table of jobs that a sweep prints at its end."""
    return [
        row for row in cells(said) if re.fullmatch(r"\d+", row[0]) and {"done", "failed"} & {*row}
    ]


def cells(said: str) -> list[list[str]]:
    """Cells of all rows of all tables."""
    lines = [line.strip("│").split("│") for line in said.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines]


def trainings(folder: Path) -> list[bool]:
    """Of each job, by number, whether its training came from the cache."""
    with (folder / "jobs.csv").open(newline="") as stream:
        jobs = [*csv.DictReader(stream)]
    lines = [progress(folder / job["folder"])[0] for job in jobs]
    assert {line["stage"] for line in lines} == {"train"}
    return [bool(line.get("from_cache")) for line in lines]


def test_methods_x_baselines_stands_on_one_training(cells_file, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "sweep"
    small = ("finetune.max_epochs=1", "pairs.max_pairs=2", "pairs.max_training_pairs=2")
    assert main(["train", *words(cells_file, tmp_path / "model", *small)]) == 0
    capsys.readouterr()
    line = words(cells_file, folder, *small, "sweep=methods_x_baselines")
    line.append(f"attribution={','.join(METHODS)}")
    assert main(["attribute", "-m", *line]) == 0
    said = capsys.readouterr().out
    assert "12 of 12 jobs done" in said and f"no job has made {AREA}" in said
    wanted = [(method, baseline) for method in METHODS for baseline in BASELINES]
    assert [tuple(row[:4]) for row in rows(said)] == [
        (str(job), *pair, "done") for job, pair in enumerate(wanted)
    ]
    assert all(trainings(folder))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["report", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "12 runs" in said and (folder / "sweep.html").is_file()
    assert [tuple(row[:2]) for row in cells(said)][: len(wanted)] == wanted


def test_pruning_rankings_trains_once_and_names_the_best(cells_file, tmp_path, capsys, no_figures):
    folder = tmp_path / "sweep"
    small = ("finetune.max_epochs=1", "pairs.max_pairs=2", "pairs.max_training_pairs=2")
    line = words(cells_file, folder, *small, *QUICK, "sweep=pruning_rankings", "report=none")
    line.append(f"ranking={','.join(RANKINGS)}")
    assert main(["study", "-m", *line]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 jobs done" in said
    found = rows(said)
    assert [row[:3] for row in found] == [[str(i), n, "done"] for i, n in enumerate(RANKINGS)]
    areas = {row[1]: float(row[3]) for row in found}
    assert areas["random"] == 0, "against random"
    best = max(areas, key=lambda name: areas[name])
    assert f"best by {AREA} (maximize): job {RANKINGS.index(best)}, ranking={best}:" in said
    assert trainings(folder) == [False] + [True] * 3
    metrics = json.loads((folder / f"ranking={best}" / "metrics.json").read_text())
    assert metrics[AREA] == pytest.approx(areas[best], rel=1e-3)
    assert "pruning/area/highest_first/main" in metrics


def test_contrasts_have_folders_of_their_own(shared, tmp_path, capsys, monkeypatch, no_figures):
    """Two whose cells are here, some of their cells and genes."""
    monkeypatch.setenv("GRADGENE_SHARED", str(shared))
    folder = tmp_path / "contrasts"
    small = (
        "data.max_cells=160 data.genes=50 data.train_tokens=30 model.dim=16 model.n_heads=2 "
        "model.hidden_dim=32 finetune.max_epochs=1 study.compare=[] pairs.max_pairs=4 "
        "pairs.max_training_pairs=4 evaluation=none report=none logger=none"
    ).split()
    line = ["sweep=paper_contrasts", "experiment=kang_ifnb,csle_pbmc", *small, *QUICK]
    assert main(["study", "-m", *line, f"paths.output_dir={folder}", "pruning.n_random=2"]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 jobs done" in said
    assert [row[:3] for row in rows(said)] == [
        ["0", "kang_ifnb", "done"],
        ["1", "csle_pbmc", "done"],
    ]
    for name in ("kang_ifnb", "csle_pbmc"):
        (run,) = (file.parent for file in (folder / name).rglob("metrics.json"))
        assert json.loads((run / "metrics.json").read_text())[AREA] is not None
