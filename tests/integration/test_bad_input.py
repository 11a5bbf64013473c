"""Everything a user can get wrong: one line that says what, where and what to do; exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import anndata as ad
import h5py
import numpy as np
import pytest

from gradgene.commands.main import main
from tests.integration.tiny import words, write_cells

ALL_DONORS = [f"d{i}" for i in range(6)]


def only(adata: ad.AnnData, keep: Callable[[ad.AnnData], np.ndarray]) -> ad.AnnData:
    """The cells for which `keep` says so."""
    return adata[np.asarray(keep(adata))].copy()


def entry(value: float) -> Callable[[ad.AnnData], None]:
    """Put `value` in place of the first expression value."""

    def change(adata: ad.AnnData) -> None:
        adata.X.data[0] = value

    return change


def duplicate_gene(adata: ad.AnnData) -> None:
    adata.var_names = ["g1", *adata.var_names[1:]]


def all_zero(adata: ad.AnnData) -> None:
    adata.X = adata.X * 0


def lognormalised(adata: ad.AnnData) -> None:
    adata.X = adata.X.log1p()


def no_male_t_cell(adata: ad.AnnData) -> ad.AnnData:
    return only(adata, lambda a: ~((a.obs["sex"] == "male") & (a.obs["cell_type"] == "T cell")))


def case_in_d0_alone(adata: ad.AnnData) -> ad.AnnData:
    return only(adata, lambda a: (a.obs["disease"] == "control") | (a.obs["donor"] == "d0"))


def d0_all_control(adata: ad.AnnData) -> ad.AnnData:
    return only(adata, lambda a: (a.obs["disease"] == "control") | (a.obs["donor"] != "d0"))


def d0_without_case(adata: ad.AnnData) -> ad.AnnData:
    """A third label everywhere, so that two are left in d0."""
    adata.obs.loc[adata.obs["sex"] == "male", "disease"] = "other"
    return only(adata, lambda a: (a.obs["disease"] != "case") | (a.obs["donor"] != "d0"))


def case_and_control_never_match(adata: ad.AnnData) -> None:
    adata.obs["cell_type"] = np.where(adata.obs["disease"] == "case", "T cell", "B cell")


CELLS = {
    "missing column": (
        None,
        ["data.phenotypes=[disease,celltype]", "study.match_on=[celltype]"],
        ["no obs column 'celltype'", "'cell_type', 'disease', 'sex', 'donor'"],
    ),
    "missing donor column": (None, ["study.donor=patient"], ["'patient'", "'donor'"]),
    "missing filter column": (None, ["study.filters.tissue=[lung]"], ["'tissue'", "'sex'"]),
    "missing label": (
        None,
        ["study.baseline=controls"],
        ["study.baseline", "'controls'", "'disease'", "'control' (60), 'case' (60)"],
    ),
    "missing filter label": (
        None,
        ["study.filters.cell_type=[T cells]"],
        ["study.filters", "'T cells'", "cells: 'T cell' ("],
    ),
    "no cell matches the filters": (
        no_male_t_cell,
        ["study.filters.cell_type=[T cell]", "study.filters.sex=[male]"],
        ["no cell matches the filters", "T cell", "male"],
    ),
    "target in match_on": (
        None,
        ["study.match_on=[cell_type,disease]"],
        ["study.match_on", "'disease'"],
    ),
    "matched on what is not read": (
        None,
        ["study.match_on=[sex]"],
        ["study.match_on", "'sex'", "'cell_type'", "data.phenotypes"],
    ),
    "target not among the phenotypes": (
        None,
        ["data.phenotypes=[cell_type]"],
        ["data.phenotypes", "'disease'"],
    ),
    "input is baseline": (None, ["study.baseline=case"], ["study.baseline", "'case'"]),
    "no pair is left": (
        case_and_control_never_match,
        [],
        ["no matched pair", "study.match_on", "'T cell'"],
    ),
    "duplicate gene": (duplicate_gene, [], ["1 gene names occur more than once", "g1"]),
    "every cell all-zero": (all_zero, [], ["all-zero", "cells.h5ad"]),
    "NaN": (entry(float("nan")), [], ["1 expression values are NaN or infinite"]),
    "infinite": (entry(float("inf")), [], ["1 expression values are NaN or infinite"]),
    "negative": (entry(-1), [], ["1 expression values are negative", "-1"]),
    "log-normalised as counts": (lognormalised, [], ["not whole numbers", "data.values=lognorm"]),
    "counts as log-normalised": (
        None,
        ["data.values=lognorm"],
        ["look like counts", "data.values=counts"],
    ),
    "one label in training": (
        case_in_d0_alone,
        ["data.holdout_donors=[d0]"],
        ["the train cells have the one label 'control'", "data.holdout_donors"],
    ),
    "one label held out": (
        d0_all_control,
        ["data.holdout_donors=[d0]"],
        ["the test cells have the one label 'control'", "data.holdout_donors"],
    ),
    "one side held out": (
        d0_without_case,
        ["data.holdout_donors=[d0]"],
        ["no test cell has the label 'case'", "data.holdout_donors", "held-out donors d0"],
    ),
    "every donor held out": (
        None,
        [f"data.holdout_donors=[{','.join(ALL_DONORS)}]"],
        ["data.holdout_donors", "no cells"],
    ),
    "unknown donor": (None, ["data.holdout_donors=[d9]"], ["'d9'", "'d0'"]),
    "donors held out without a donor column": (
        None,
        ["study.donor=null", "data.holdout_donors=[d0]"],
        ["data.holdout_donors", "study.donor"],
    ),
    "missing layer": (None, ["data.layer=counts"], ["no layer 'counts'", "data.layer"]),
    "no .raw": (None, ["data.layer=raw"], ["no .raw", "data.layer"]),
    "missing gene key": (None, ["data.gene_key=symbol"], ["'symbol'", "'ensembl_id'"]),
}


@pytest.mark.parametrize("case", CELLS)
def test_cells_that_do_not_fit(case, tmp_path, refused):
    change, overrides, says = CELLS[case]
    data = write_cells(tmp_path / "cells.h5ad", change)
    error = refused("study", *words(data, tmp_path / "run", *overrides))
    for text in says:
        assert text in error, error
    assert not (tmp_path / "run").exists(), "known before anything is written"


CHOICES = {
    "missing data": (["data.path=nowhere/cells.h5ad"], ["data.path", "nowhere/cells.h5ad"]),
    "typo in a key": (["pairs.max_pair=3"], ["pairs.max_pair", "'pairs.max_pairs'"]),
    "typo in a section": (["modl.dim=8"], ["modl.dim", "'model'"]),
    "typo in a leaf": (["attribution=deeplft"], ["'deeplft'", "'deeplift'"]),
    "typo in a compared leaf": (["study.compare=[deeplft]"], ["study.compare", "'deeplift'"]),
    "wrong type": (["model.dim=wide"], ["model.dim", "int", "'wide'"]),
    "wrong type of a list": (["data.phenotypes=disease"], ["data.phenotypes", "'disease'"]),
    "wrong choice": (["data.values=count"], ["data.values", "'counts'"]),
    "empty name": (["study.name=''"], ["study.name", "empty"]),
    "meaningless importance": (
        ["ranking.importance=paper_mean"],
        ["ranking.importance", "'paper_mean' is meaningless", "deeplift", "'forward'"],
    ),
    "unknown importance": (["ranking.importance=foward"], ["ranking.importance", "'forward'"]),
    "impossible ratio": (["pruning.ratios=[0.5,1.0]"], ["pruning.ratios", "1.0"]),
    "unknown ranking": (
        ["pruning.rankings=[deeplift/paper_mean]"],
        ["pruning.rankings", "'deeplift/paper_mean'", "'deeplift/forward'"],
    ),
    "missing list of known genes": (
        ["evaluation.known_genes=nowhere.txt"],
        ["evaluation.known_genes", "nowhere.txt"],
    ),
    "missing file of pairs": (["pairs.file=nowhere.csv"], ["pairs.file", "nowhere.csv"]),
    "missing file of a ranking": (
        ["ranking=table", "ranking.file=nowhere.csv"],
        ["ranking.file", "nowhere.csv"],
    ),
    "no pairs": (["pairs.max_pairs=0"], ["pairs", "max_pairs=0"]),
    "weights of half precision": (
        ["trainer.precision=bf16-true"],
        ["trainer.precision", "bf16-mixed", "found bf16-true"],
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choices_are_refused_before_anything_is_written(case, cells_file, tmp_path, refused):
    overrides, says = CHOICES[case]
    error = refused("study", *words(cells_file, tmp_path / "run", *overrides))
    for text in says:
        assert text in error, error
    assert not (tmp_path / "run").exists()


def test_a_missing_file_names_its_neighbours(cells_file, tmp_path, refused):
    error = refused("study", *words(cells_file.with_name("cels.h5ad"), tmp_path / "run"))
    assert "no such file" in error and "'cells.h5ad'" in error


@pytest.mark.parametrize("kind", ["text", "HDF5 of something else", "folder"])
def test_not_an_anndata(kind, tmp_path, refused):
    file = tmp_path / "cells.h5ad"
    if kind == "text":
        file.write_text("gene,score\n")
    elif kind == "folder":
        file.mkdir()
    else:
        with h5py.File(file, "w") as content:
            content["weights"] = np.zeros(3)
    for line in (["study", *words(file, tmp_path / "run")], ["data", "inspect", str(file)]):
        assert str(file) in refused(*line)


def test_an_output_directory_below_a_file(cells_file, tmp_path, refused):
    (tmp_path / "file").write_text("kept")
    error = refused("study", *words(cells_file, tmp_path / "file" / "run"))
    assert str(tmp_path / "file") in error
    assert (tmp_path / "file").read_text() == "kept"


def test_cells_without_a_match_are_skipped_counted_and_told(tmp_path, capsys):
    def change(adata: ad.AnnData) -> None:
        lonely = (adata.obs["disease"] == "case") & (adata.obs["donor"].isin(["d0", "d1"]))
        adata.obs.loc[lonely & (adata.obs["sex"] == "male"), "cell_type"] = "rare"

    data = write_cells(tmp_path / "cells.h5ad", change)
    obs = ad.read_h5ad(data).obs
    line = words(data, tmp_path / "run", "data.holdout_donors=[d0,d1]")
    for command in ("train", "attribute"):
        assert main([command, *line]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    n_rare = int((obs["cell_type"] == "rare").sum())
    assert n_rare > 0 and metrics["pairs/n_skipped"] == n_rare
    said = " ".join(capsys.readouterr().out.split())
    assert f"skipped {n_rare} input cells: no 'control' cell in 'rare'" in said


def test_cells_without_values_label_or_donor_are_dropped_and_counted(tmp_path, capsys):
    def change(adata: ad.AnnData) -> None:
        adata.X[:3] = 0
        adata.X[10:12] = 0
        adata.X[10:12, 20] = 7  # beside the panel
        adata.obs.loc[adata.obs_names[5], "disease"] = np.nan
        adata.obs.loc[adata.obs_names[6], "donor"] = np.nan

    data = write_cells(tmp_path / "cells.h5ad", change)
    panel = tmp_path / "panel.txt"
    panel.write_text("".join(f"g{i}\n" for i in range(30) if i != 20))
    assert main(["train", *words(data, tmp_path / "run", f"data.genes={panel}")]) == 0
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["dropped"] == {
        "all-zero": 3,
        "no disease": 1,
        "no donor": 1,
        "no gene of the panel": 2,
    }
    assert (report["n_cells_read"], report["n_cells_kept"]) == (120, 113)
    said = capsys.readouterr().out
    assert "113 cells x 29 genes" in said and "left out 3 cells (all-zero)" in said


@pytest.mark.slow
def test_a_real_process_says_nothing_else_on_stderr(cells_file, tmp_path):
    line = words(cells_file, tmp_path / "run", "study.match_on=[cell_type]", "study.input=cse")
    done = subprocess.run(
        [sys.executable, "-m", "gradgene", "study", *line],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gradgene: error: study.input: no cell has the label 'cse'")
    assert done.stderr.count("\n") == 1
