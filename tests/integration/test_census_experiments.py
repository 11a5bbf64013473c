"""The experiments on CELLxGENE cells compose, validate and run on synthetic cells of that shape."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from gradgene.cells import write_synthetic_shards
from gradgene.commands.config.groups import conf_dir
from gradgene.commands.main import main
from tests.integration.tiny import QUICK

EXPERIMENTS = {
    "alzheimer_microglia": ("Alzheimer disease", "microglial cell", "brain"),
    "breast_cancer_fibroblast": ("breast cancer", "fibroblast", "breast"),
    "dcm_heart": ("dilated cardiomyopathy", "cardiac muscle cell", "heart"),
}
#: A model and a study of some seconds; what the experiment is about stays as it is.
SMALL = (
    "data.train_tokens=40 data.genes=60 model.dim=16 model.n_heads=2 model.hidden_dim=32 "
    "finetune.max_epochs=2 pairs.max_pairs=6 pairs.max_training_pairs=6 pruning=short_grid "
    "pruning.n_random=2 logger=none report=none"
).split()


def write_cells(folder: Path, name: str, n_cells: int = 400) -> str:
    """Two shards of cells an experiment asks for, among others; returns a glob."""
    disease, cell_type, organ = EXPERIMENTS[name]
    labels = {
        "disease": ("normal", disease),
        "cell_type": (cell_type, "endothelial cell", "T cell"),
        "tissue": (f"left {organ}", f"right {organ}"),
        "tissue_general": (organ, "blood"),
        "development_stage": ("80-year-old stage",),
    }
    write_synthetic_shards(
        folder, n_cells, n_shards=2, n_genes=120, genes_per_cell=40, labels=labels, n_donors=9
    )
    return f"{folder}/*.h5ad"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_the_paper_compares(name: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[f"experiment={name}", "data.path=cells.h5ad"])
    categories = ["cell_type", "tissue", "disease", "development_stage", "sex", "assay"]
    assert cfg.data.phenotypes == categories and cfg.data.max_cells == 5000
    assert (cfg.study.target, cfg.study.baseline) == ("disease", "normal")
    assert cfg.study.input == EXPERIMENTS[name][0] and cfg.study.donor == "donor_id"
    assert cfg.study.match_on == [c for c in categories if c != "disease"]
    assert cfg.pairs.max_pairs is None  # every held-out cell of the 5,000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_accepts_cells_of_the_schema(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = write_cells(tmp_path, name)
    line = ["data", "validate", f"experiment={name}", f"data.path={cells}", *SMALL]
    assert main(line) == 0, capsys.readouterr().err
    assert "valid: a study" in capsys.readouterr().out


@pytest.mark.slow
def test_alzheimer_microglia_runs(tmp_path: Path, no_figures: None) -> None:
    cells = write_cells(tmp_path / "cells", "alzheimer_microglia", 600)
    folder = tmp_path / "run"
    line = [f"data.path={cells}", f"paths.output_dir={folder}", *SMALL, *QUICK]
    assert main(["study", "experiment=alzheimer_microglia", *line]) == 0
    genes = pd.read_parquet(folder / "attributions" / "genes.parquet")
    ranked = genes[genes["rank"].notna()]
    assert 30 < len(ranked) <= 60 and ranked["gene"].str.startswith("ENSG").all()
    assert genes["target"].unique().tolist() == ["disease: Alzheimer disease against normal"]
    pairs = pd.read_parquet(folder / "attributions" / "pairs.parquet")
    assert 0 < len(pairs) <= 6 and pairs["donor_input"].notna().all()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["test/balanced_accuracy"] <= 1
    assert (folder / "pruning" / "summary.parquet").is_file()
