"""Notebooks that make their own runs, top to bottom from nothing."""

from __future__ import annotations

import ast
import tempfile

import anndata as ad
import numpy as np
import pytest
from matplotlib.figure import Figure

from gradgene.pruning.curve import CURVE_COLUMNS
from tests.integration.notebooks import code_cells, run_notebook

pytestmark = pytest.mark.slow

#: Fewer pairs to explain and orders to prune by; the model learns what it learns in the notebook.
SMALLER = {"max_pairs": 8, "max_training_pairs": 20, "controls": "[random]", "n_random": 2}


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """An empty folder to be in, and temporary folders inside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_own_data_from_a_file_to_a_gene_table(capfd, no_figures):
    names = run_notebook("03_own_data.ipynb", **{**SMALLER, "max_pairs": 20})
    said = capfd.readouterr()
    assert "no cell has the label 'CD14 Monocyte'" in said.err and said.err.count("\n") == 1
    assert "valid: a study with this configuration would start training" in said.out
    table, kept, ours = names["table"], names["kept"], names["ours"]
    assert 5 <= len(kept.genes) < len(table.genes)
    assert (kept.genes["n_pairs"] >= 10).all() and (kept.genes["score"].abs() > 0.05).all()
    assert table.compare(ours, 30).overlap_at_k > 0.3, "held-out and training pairs, one model"
    back = ad.read_h5ad(names["folder"] / "scored.h5ad")
    scored = back.varm["gradgene"].dropna()
    assert set(scored.index) == set(ours.genes["gene"])
    assert list(back.uns["gradgene_pruning"]) == CURVE_COLUMNS
    curve = names["curve"]
    assert set(curve.frame["ranking"]) == {"deeplift/table", "random"}
    assert set(curve.frame["ratio"]) == {0, 0.05, 0.5, 0.9}


def test_a_whole_study_takes_at_most_ten_lines():
    """From the file to the curve, as the contract says; without imports."""
    (study,) = [code for code in code_cells("03_own_data.ipynb") if "load_checkpoint(" in code]
    assert len(study.splitlines()) <= 10 and len(ast.parse(study).body) <= 10
    steps = ("read_cells(", "PairSampler(", ".attribute(", "rank_genes(", "prune(")
    assert all(step in study for step in steps)


def test_settings_of_a_sweep_side_by_side(no_figures):
    names = run_notebook("04_sweep_results.ipynb", **SMALLER)
    settings, agreement = names["settings"], names["agreement"]
    wanted = {f"{m}, {b}" for m in ("deeplift", "grad_x_delta") for b in ("cell_state", "empty")}
    assert set(settings.index) == wanted == set(names["scores"])
    for name in wanted:
        assert settings.loc[name, "complete"] == name.startswith("deeplift")
    complete = settings[settings["complete"]]
    assert (complete["relative delta"] <= 1e-3).all()
    assert (complete["best kept"] > 0).all() and (complete["best removed"] < 0).all()
    models = {files.metrics["test/balanced_accuracy"] for files in names["runs"].values()}
    assert len(models) == 1, "the same seed makes the same model"
    assert len(agreement) == 6 and agreement["spearman"].between(-1, 1).all()
    assert agreement["30 best in common"].between(0, 1).all()
    figure = names["figure"]
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    for ax in figure.axes:
        assert [line.get_label() for line in ax.lines] == [*names["runs"], "random"]
        assert all(np.isfinite(line.get_ydata()).all() for line in ax.lines)
