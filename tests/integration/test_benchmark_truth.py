"""`gradgene benchmark truth` at toy size: every part runs, and what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pytest

from gradgene.cells import PlantedLevel
from gradgene.commands import benchmark_truth, benchmark_truth_seed
from gradgene.commands.main import main

pytestmark = pytest.mark.slow

TOY = PlantedLevel(
    name="toy", n_cells=800, n_xor=1, n_decoys=2, n_null=4, n_epochs=1, n_pairs=20
)  # fmt: skip
WORDS = (
    "level=toy seeds=2 first_seed=0 jobs=1 other_pairs=6 n_random=2 "
    "methods=[random,deeplift] arms=[cell_state,zero,unmatched]"
).split()


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = MappingProxyType({"toy": TOY})
    for module in (benchmark_truth, benchmark_truth_seed):
        monkeypatch.setattr(module, "PLANTED_LEVELS", levels)


@pytest.mark.usefixtures("toy")
def test_every_ranking_of_every_seed_is_judged_and_kept(tmp_path: Path) -> None:
    line = ["benchmark", "truth", *WORDS, f"output_dir={tmp_path}"]
    assert main(line) == 0
    truth = pd.read_csv(tmp_path / "truth.csv", keep_default_na=False)
    assert set(truth["cells_seed"]) == {0, 1} and set(truth["draw"]) == {0, 1}
    ran = truth[["arm", "method"]].drop_duplicates().to_numpy().tolist()
    assert sorted(map(tuple, ran)) == [
        ("cell_state", "deeplift"),
        ("cell_state", "random"),
        *(("none", name) for name in ("deg", "expression", "hvg", "random")),
        ("unmatched", "deeplift"),
        ("zero", "deeplift"),
        ("zero", "random"),
    ]
    assert set(truth.loc[truth["arm"] == "unmatched", "n_pairs"]) == {20}
    assert set(truth.loc[truth["arm"] == "zero", "n_pairs"]) == {6}
    assert set(truth.loc[truth["default"], "ranking"]) >= {"deeplift/forward", "deg"}
    models = pd.read_csv(tmp_path / "models.csv")
    assert (models["bayes_accuracy"] > 0.7).all() and (models["n_xor"] == 1).all()
    for name in ("truth", "truth_by_arm"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "benchmark.json").read_text())["figures"]
    assert "AUPRC less deg's" in {figure["figure"] for figure in found}

    kept = tmp_path / "toy-1-1"
    (kept / "rankings" / "zero" / "deeplift.parquet").unlink()
    before = (tmp_path / "truth.csv").read_text()
    assert main(line) == 0
    assert (tmp_path / "truth.csv").read_text() == before
    parts = [json.loads(text)["part"] for text in (kept / "seconds.jsonl").read_text().splitlines()]
    again = pd.Series(parts).value_counts()
    assert again["zero: deeplift"] == 2 and (again.drop("zero: deeplift") == 1).all()
