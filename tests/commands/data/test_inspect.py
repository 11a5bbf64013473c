"""`gradgene data inspect`: what it says of files whose contents are known."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.commands.data.files import join_obs, look_at, value_kind
from gradgene.commands.data.inspect import contrasts, gene_facts
from gradgene.commands.main import main
from tests.planted import make_adata


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run the command; returns the exit code, and what it wrote with runs of spaces made one."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*words: str) -> tuple[int, str]:
        code = main(["data", "inspect", *words])
        out, err = capsys.readouterr()
        return code, " ".join((out + err).split())

    return call


def schema_cells(seed: int = 0) -> ad.AnnData:
    """Cells in CELLxGENE columns: six donors, `case` in d0 … d3, and labels that are missing."""
    adata = make_adata(120, 30, n_donors=6, seed=seed)
    adata.var_names = [f"ENSG{i:011d}" for i in range(30)]
    adata.obs = adata.obs.rename(columns={"donor": "donor_id"})
    low = adata.obs["donor_id"].isin(["d0", "d1", "d2", "d3"])
    adata.obs["disease"] = np.where(low & (adata.obs["disease"] == "case"), "case", "normal")
    adata.obs.loc[adata.obs_names[:7], "cell_type"] = "unknown"
    adata.obs["stage"] = "[/] III"  # what rich would take for markup
    adata.obs["age"] = np.linspace(20.0, 80.0, 120)
    adata.obs["barcode"] = adata.obs_names
    return adata


def test_a_file(tmp_path: Path, said) -> None:
    adata = schema_cells()
    adata.layers["log"] = adata.X.log1p()
    adata.write_h5ad(tmp_path / "a.h5ad")
    code, text = said(str(tmp_path / "a.h5ad"))
    assert code == 0
    assert "120 cells x 30 genes" in text
    assert "data.layer=null (.X): counts" in text and "data.layer=log: not whole numbers" in text
    assert "Ensembl ids" in text and "30 of 30 look like Ensembl ids, 0 with a version" in text
    n_case = int((adata.obs["disease"] == "case").sum())
    assert f"disease │ 2 │ │ normal ({120 - n_case}/6), case ({n_case}/4)" in text
    assert "cell_type │ 3 │ 7 │" in text and "unknown" not in text
    assert "stage │ 1 │ │ [/] III (120/6)" in text
    assert "age" not in text.replace("stage", "") and "barcode" not in text
    assert "donors: 6 in column 'donor_id' by its name" in text
    assert f"disease │ case | normal │ all cells │ 4 | 6 │ {n_case} | {120 - n_case}" in text


@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
def test_shards_are_one_data_set(tmp_path: Path, said) -> None:
    first, second = schema_cells(0), schema_cells(1)
    second = second[:, ::-1][:, :20].copy()
    second.obs = second.obs.drop(columns="sex")
    first.write_h5ad(tmp_path / "a.h5ad")
    second.write_zarr(tmp_path / "b.zarr")
    code, text = said(str(tmp_path / "*.*"))
    assert code == 0
    assert "2 files: 240 cells; 20 of 30 gene ids are in every file" in text
    assert "sex │ 2 │ 120 │" in text  # no label in the file that lacks the column
    counts = Counter([*first.obs["disease"], *second.obs["disease"]])
    assert f"normal ({counts['normal']}/6), case ({counts['case']}/4)" in text
    assert said(str(tmp_path / "a.h5ad"), str(tmp_path / "b.zarr"))[1].startswith("2 files: 240")


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_any_layout_of_the_matrix(tmp_path: Path, said, layout: str) -> None:
    adata = schema_cells()
    adata.X = {"csr": adata.X, "csc": sparse.csc_matrix(adata.X), "dense": adata.X.toarray()}[
        layout
    ]
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert "data.layer=null (.X): counts" in said(str(tmp_path / "a.h5ad"))[1]


def test_files_of_old_layout_and_without_donors(said) -> None:
    code, text = said("bundled:pbmc68k")
    assert code == 0 and "700 cells x 765 genes" in text
    assert "null (.X): scaled or damaged" in text and "layer=raw: not whole numbers" in text
    assert "donors: no column found; name it with donor=COLUMN" in text


def test_the_donor_can_be_named(tmp_path: Path, said) -> None:
    adata = schema_cells()
    adata.obs = adata.obs.rename(columns={"donor_id": "who"})
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert "no column found" in said(str(tmp_path / "a.h5ad"))[1]
    assert "donors: 6 in column 'who'" in said(str(tmp_path / "a.h5ad"), "donor=who")[1]
    code, text = said(str(tmp_path / "a.h5ad"), "donor=whom")
    assert code == 2 and "'who'" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "needs a file"),
        (("nowhere.h5ad",), "no such file"),
        (("bundled:pbmc68k", "doner=x"), "doner: no such setting"),
        (("bundled:pbmc68k", "genes=nowhere.tsv"), "cannot be read as a table of genes"),
    ],
)
def test_mistakes(said, words: tuple[str, ...], says: str) -> None:
    code, text = said(*words)
    assert code == 2 and says in text


def test_a_file_that_is_no_anndata(tmp_path: Path, said) -> None:
    (tmp_path / "a.h5ad").write_text("not HDF5")
    code, text = said(str(tmp_path / "a.h5ad"))
    assert code == 2 and "is not a readable AnnData file" in text


def test_gene_ids(tmp_path: Path) -> None:
    table = tmp_path / "genes.tsv"
    table.write_text("id\tsymbol\nENSG00000000001\tA\nENSG00000000002\tB\n")
    first = pd.Index(["ENSG00000000001.7", "ENSG00000000009", "B", "B"])
    second = pd.Index(["ENSG00000000001.8", "ENSG00000000002"])
    lines = list(gene_facts([first, second], str(table)))
    assert "4 of 5 look like Ensembl ids, 2 with a version" in lines[0]
    assert lines[1:] == [
        "genes: 1 ids occur more than once in a file: B",
        "genes: without versions 1 ids fall together",
        f"genes: 4 of 5 (80.0%) known in {table}",
        "genes: 1 Ensembl ids not in it, for example retired ones: ENSG00000000009",
    ]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0.0, 3.0], "counts"),
        ([0.5, 3.0], "not whole numbers"),
        ([-1.0, 3.0], "not usable"),
        ([np.nan, 3.0], "not usable"),
        ([], "no values"),
    ],
)
def test_kinds_of_values(tmp_path: Path, values: list[float], says: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert says in value_kind(file.create_dataset("x", data=np.array(values)))


def test_a_large_matrix_is_sampled() -> None:
    """Only three slices of a sparse matrix's stored values are ever asked for."""

    class Stored:
        shape = (10**9,)
        asked = 0

        def __getitem__(self, part: slice) -> np.ndarray:
            assert 0 <= part.start < part.stop <= self.shape[0]
            self.asked += part.stop - part.start
            return np.ones(part.stop - part.start)

    stored = Stored()
    assert "counts" in value_kind({"data": stored})
    assert 0 < stored.asked < 10**6


LABELS = st.lists(
    st.tuples(
        st.sampled_from(["x", "y", "z", None]),
        st.sampled_from(["B", "T", None]),
        st.sampled_from(["d0", "d1", "d2", "d3", "d4", None]),
    ),
    max_size=60,
)


@given(LABELS)
def test_contrasts_are_what_counting_says(cells: list[tuple[str | None, ...]]) -> None:
    names = ["disease", "cell_type", "donor"]
    obs = pd.DataFrame(cells, columns=names).astype("category")
    table = contrasts(obs, ["disease", "cell_type"], "donor")
    found = {
        (
            r.category,
            r.within,
            frozenset({(r.label, r.donors, r.cells), (r.other, r.donors_other, r.cells_other)}),
        )
        for r in table.itertuples()
    }
    expected = set()
    for category, within in [
        ("disease", ""),
        ("disease", "B"),
        ("disease", "T"),
        ("cell_type", ""),
    ]:
        mine = [c for c in cells if c[2] is not None and within in ("", c[1])]
        place = names.index(category)
        donors = {
            v: {c[2] for c in mine if c[place] == v} for v in {c[place] for c in mine} - {None}
        }
        size = Counter(c[place] for c in mine)
        for a, b in itertools.combinations([v for v, d in donors.items() if len(d) >= 3], 2):
            pair = frozenset({(a, len(donors[a]), size[a]), (b, len(donors[b]), size[b])})
            expected.add((category, within, pair))
    assert found == expected and len(table) == len(expected)


def test_a_column_that_a_file_lacks_is_missing_there(tmp_path: Path) -> None:
    adata = schema_cells()
    adata.write_h5ad(tmp_path / "a.h5ad")
    adata.obs = adata.obs.drop(columns=["sex"])
    adata.write_h5ad(tmp_path / "b.h5ad")
    obs = join_obs([look_at(tmp_path / name) for name in ("a.h5ad", "b.h5ad")])
    assert len(obs) == 240 and obs["sex"].isna().tolist() == [False] * 120 + [True] * 120
    assert all(isinstance(obs[c].dtype, pd.CategoricalDtype) for c in obs)


def test_an_atlas_has_many_cell_types_and_perhaps_no_donors(tmp_path: Path, said) -> None:
    adata = schema_cells()
    adata.obs["cell_type"] = pd.Categorical(
        [f"type {i}" for i in range(120)], categories=[f"type {i}" for i in range(140)]
    )
    adata.obs["donor_id"] = "unknown"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    code, out = said(str(tmp_path / "cells.h5ad"))
    assert code == 0
    assert "cell_type │ 120 │" in out
    assert "donors: none in column 'donor_id'" in out and "120 cells without a donor" in out
