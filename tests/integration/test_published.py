"""Studies of published checkpoints, from the command line to scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gradgene.commands.main import main

PERTURBGENE = "[cell_type,tissue,sex,development_stage,disease]"


def words(shared: Path, folder: Path, fixture: str, *more: str) -> list[str]:
    fixtures = shared / "fixtures"
    return [
        "study.name=published",
        "study.target=disease",
        "study.baseline=normal",
        "data.values=lognorm",
        "logger=none",
        "pairs.max_pairs=20",
        "study.compare=[grad_x_delta]",
        f"data.path={fixtures / fixture / 'cells.h5ad'}",
        f"checkpoint.path={fixtures / fixture / 'run'}/",
        f"paths.output_dir={folder}",
        *more,
    ]


@pytest.fixture
def genes(shared: Path, tmp_path: Path) -> Path:
    """The gene list that a perturbgene checkpoint needs."""
    known = json.loads((shared / "fixtures/perturbgene/expected_vocab.json").read_text())
    file = tmp_path / "genes.txt"
    file.write_text("\n".join(known["gene_order"]))
    return file


def test_attribution_of_a_perturbgene_checkpoint(shared: Path, genes: Path, tmp_path: Path) -> None:
    line = words(
        shared,
        tmp_path / "run",
        "perturbgene",
        "study.input='breast cancer'",
        f"data.phenotypes={PERTURBGENE}",
        f"checkpoint.genes={genes}",
    )
    assert main(["attribute", *line]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["attribution/deeplift/relative_delta_max"] <= 1e-4
    assert metrics["attribution/grad_x_delta/relative_delta_p50"] > 0.01
    known = set(genes.read_text().split())
    for place in (".", "grad_x_delta"):
        table = pd.read_parquet(tmp_path / "run" / "attributions" / place / "genes.parquet")
        named = {gene for gene in table["gene"] if not gene.startswith("@")}  # @ is a phenotype
        assert len(named) > 50 and named <= known
        assert table["forward"].abs().max() > 0


def test_genes_must_be_given(shared: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    line = words(
        shared,
        tmp_path / "run",
        "perturbgene",
        "study.input='breast cancer'",
        f"data.phenotypes={PERTURBGENE}",
    )
    message = refused("attribute", *line)
    assert "600 gene names" in message and "checkpoint.genes" in message


@pytest.mark.slow
def test_a_study_of_labels_that_the_model_spells_otherwise(
    shared: Path, tmp_path: Path, no_figures: None
) -> None:
    """The model knows `parkinson disease`, and cells may lack one of its columns."""
    cells = ad.read_h5ad(shared / "fixtures" / "polygene_dv" / "cells.h5ad")
    copies = []
    for i in range(6):
        copy = cells.copy()
        copy.obs_names = [f"copy{i}_{name}" for name in copy.obs_names]
        copy.obs["disease"] = np.resize(["Parkinson disease", "normal"], len(copy))
        copies.append(copy)
    file = tmp_path / "cells.h5ad"
    ad.concat(copies).write_h5ad(file)
    line = words(
        shared,
        tmp_path / "run",
        "polygene_dv",
        "study.input='Parkinson disease'",
        "data.phenotypes=[assay,cell_type,disease,sex,tissue]",
        "data.holdout_donors=0.5",
        "pruning=short_grid",
        "pruning.n_random=1",
        "report=none",
        f"data.path={file}",
    )
    assert main(["study", *line]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["attribution/deeplift/relative_delta_max"] <= 1e-4
    assert metrics["test/n_cells"] == 18
