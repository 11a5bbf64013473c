"""The tables beside an experiment's README, printed and written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.tables import main
from tests.reports.synthetic import CONFIG, gene_table, write_run


def seed_run(folder: Path, seed: int) -> str:
    study = {**CONFIG["study"], "seed": seed}  # type: ignore[dict-item]
    genes = gene_table(60, seed=seed)
    changes = {"config.yaml": {**CONFIG, "study": study}, "attributions/genes.parquet": genes}
    return str(write_run(folder, changes))


def test_the_files_that_a_readme_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [seed_run(tmp_path / str(seed), seed) for seed in (3, 0)]
    out = tmp_path / "out"
    assert main([*runs, f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "| figure | 3 | 0 | median |" in said and str(out / "genes_top30.csv") in said
    assert sorted(f.name for f in out.iterdir()) == [
        "genes_top30.csv",
        "pruning_areas_seed3.csv",
        "pruning_curves_seed3.csv",
    ]
    genes = pd.read_csv(out / "genes_top30.csv")
    assert genes.columns[:4].tolist() == ["seed", "rank", "gene", "score"]
    assert genes["seed"].tolist() == [3] * 30 + [0] * 30
    assert genes["rank"].tolist() == [*range(1, 31)] * 2
    areas = pd.read_csv(out / "pruning_areas_seed3.csv").set_index(["ranking", "order"])
    assert areas.loc[("hvg", "lowest_first"), "area"] == pytest.approx(0.08)
    curves = pd.read_csv(out / "pruning_curves_seed3.csv").set_index(["ranking", "order"])
    raw = pd.read_parquet(Path(runs[0]) / "pruning" / "curves.parquet")
    at = raw[(raw["ranking"] == "random") & (raw["order"] == "lowest_first")]
    draws = at.loc[at["ratio"] == 0.95, "value"]
    assert len(draws) == 10
    assert curves.loc[("random", "lowest_first"), "0.95"] == pytest.approx(draws.mean(), abs=1e-4)


def test_what_cannot_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "RUN [RUN …]" in capsys.readouterr().err
    bare = write_run(tmp_path / "run", {"attributions/genes.parquet": None})
    assert main([str(bare)]) == 0  # without a folder to write into it is printed only
    assert "| ranking |" in capsys.readouterr().out and [*tmp_path.iterdir()] == [bare]
    assert main([str(bare), f"out={tmp_path / 'out'}"]) == 2
    assert "has no gene table" in capsys.readouterr().err
