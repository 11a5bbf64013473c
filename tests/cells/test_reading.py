"""Every layout of a cell file gives the same cells, and every mistake one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from gradgene.cells import CellQuery, Cells, CellSchema, cells_from_anndata, files, read_cells
from gradgene.cells import resolve_paths as resolve
from gradgene.errors import CellsError, ConfigError, GradgeneError, LabelError
from tests.planted import PHENOTYPES, make_adata

SCHEMA = CellSchema(PHENOTYPES, donor="donor")
LAYOUTS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": lambda matrix: matrix.toarray(),
    "integers": lambda matrix: matrix.astype(np.int32),
}


def laid_out(layout: str, adata: ad.AnnData | None = None) -> ad.AnnData:
    adata = adata or make_adata()
    adata.X = LAYOUTS[layout](adata.X)
    return adata


def read(adata: ad.AnnData, folder: Path, schema: CellSchema = SCHEMA, **query: tuple) -> Cells:
    """Write and read back, from disk."""
    file = folder / "cells.h5ad"
    adata.write_h5ad(file)
    return read_cells(str(file), schema, CellQuery(query))


def complaint(error: pytest.ExceptionInfo[GradgeneError]) -> str:
    """The message, which must be one line that says where."""
    text = str(error.value)
    assert len(text.splitlines()) == 1
    assert error.value.where
    assert text.startswith(error.value.where)
    return text


@pytest.fixture(params=["in memory", "backed"])
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Cells]:
    """`reader(adata, schema, **filters)`: straight from memory, and over a file."""

    def from_memory(adata: ad.AnnData, schema: CellSchema = SCHEMA, **query: tuple) -> Cells:
        return cells_from_anndata(adata, schema, CellQuery(query))

    def from_disk(adata: ad.AnnData, schema: CellSchema = SCHEMA, **query: tuple) -> Cells:
        return read(adata, tmp_path, schema, **query)

    return from_memory if request.param == "in memory" else from_disk


@pytest.mark.parametrize("block", [7, 4096])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_agree(
    layout: str, block: int, reader: Callable[..., Cells], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", block)
    expected = make_adata()
    kept = (expected.obs["sex"] == "female").to_numpy()
    cells = reader(laid_out(layout), sex=("female",))
    assert isinstance(cells.matrix_ng, sparse.csr_matrix)
    assert cells.matrix_ng.dtype == np.float32
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), expected.X.toarray()[kept])
    assert list(cells.obs.index) == list(expected.obs_names[kept])
    for column in (*PHENOTYPES, "donor"):
        assert list(cells.obs[column]) == list(expected.obs.loc[kept, column])
    assert cells.genes == tuple(expected.var_names)
    assert cells.ensembl_ids == tuple(expected.var["ensembl_id"])
    assert cells.dropped == {"filtered out": int((~kept).sum())}


def test_only_wanted_columns_are_kept_as_strings(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    adata.obs["age"] = np.arange(60)
    adata.obs["stage"] = pd.Categorical(["one"] * 30 + [None] * 30)
    cells = reader(adata, CellSchema(("age", "stage"), donor="donor"))
    assert list(cells.obs.columns) == ["age", "stage", "donor"]
    assert list(cells.obs["age"]) == [str(i) for i in range(60)]
    assert cells.obs["stage"].notna().tolist() == [True] * 30 + [False] * 30
    assert cells.counts_of("stage") == {"one": 30}


def test_the_batch_is_kept_beside_phenotypes_and_donor(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    adata.obs["lane"] = pd.Categorical(["1"] * 20 + ["2"] * 30 + ["unknown"] * 10)
    cells = reader(adata, CellSchema(("sex",), donor="donor", batch="lane"))
    assert list(cells.obs.columns) == ["sex", "donor", "lane"]
    assert cells.counts_of("lane") == {"2": 30, "1": 20}
    assert any("10 of 60 cells have no label in 'lane'" in note for note in cells.notes)
    same = reader(adata, CellSchema(("sex",), donor="donor", batch="donor"))
    assert list(same.obs.columns) == ["sex", "donor"], "a column of two meanings is read once"
    assert list(reader(adata, CellSchema(("sex",))).obs.columns) == ["sex"]


def test_raw_layer_and_gene_key(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    counts_ng = adata.X.toarray()
    adata.layers["doubled"] = sparse.csr_matrix(2 * counts_ng)
    adata.raw = adata.copy()
    adata = adata[:, :20].copy()
    adata.X = adata.X * 3
    raw = reader(adata, CellSchema(("sex",), layer="raw"))
    np.testing.assert_array_equal(raw.matrix_ng.toarray(), counts_ng)
    assert len(raw.genes) == len(raw.ensembl_ids) == 50
    layer = reader(adata, CellSchema(("sex",), layer="doubled", gene_key="ensembl_id"))
    np.testing.assert_array_equal(layer.matrix_ng.toarray(), 2 * counts_ng[:, :20])
    assert layer.genes == layer.ensembl_ids == tuple(adata.var["ensembl_id"])
    own = reader(adata, CellSchema(("sex",)))
    np.testing.assert_array_equal(own.matrix_ng.toarray(), 3 * counts_ng[:, :20])


def test_ensembl_ids_are_found_where_files_keep_them() -> None:
    adata = make_adata()
    ids = list(adata.var["ensembl_id"])
    for column in ("gene_ids", "feature_id"):
        adata.var = adata.var.rename(columns={adata.var.columns[0]: column})
        assert cells_from_anndata(adata, SCHEMA).ensembl_ids == tuple(ids)
    adata.var = adata.var.set_index("feature_id").assign(symbol=adata.var_names)
    cells = cells_from_anndata(adata, CellSchema(PHENOTYPES, gene_key="symbol"))
    assert cells.ensembl_ids == tuple(ids)
    assert cells.genes[:2] == ("g0", "g1")
    del adata.var["symbol"]
    adata.var_names = [f"g{i}" for i in range(50)]
    assert cells_from_anndata(adata, SCHEMA).ensembl_ids == ("",) * 50


def test_legacy_file_that_scanpy_ships() -> None:
    schema = CellSchema(("bulk_labels", "phase"), layer="raw", values="lognorm")
    cells = read_cells("bundled:pbmc68k", schema)
    assert cells.matrix_ng.shape == (700, 765)
    counts = cells.counts_of("bulk_labels")
    assert len(counts) == 10
    assert sum(counts.values()) == 700
    assert counts["CD14+ Monocyte"] == 129


def test_all_zero_cells_are_dropped_and_counted(reader: Callable[..., Cells]) -> None:
    cells = reader(make_adata(empty=3))
    assert cells.dropped == {"all-zero": 3}
    assert list(cells.obs.index) == [f"cell{i}" for i in range(57)]
    assert np.asarray(cells.matrix_ng.sum(axis=1)).min() > 0


def test_stored_zeros_count_as_zero_and_repeated_entries_as_their_sum() -> None:
    adata = make_adata(n=3, n_genes=10)
    data, columns, ends = [0.0, 0.0, 1.0, 2.0, 4.0], [0, 1, 5, 5, 0], [0, 2, 4, 5]
    adata.X = sparse.csr_matrix((np.array(data, dtype=np.float32), columns, ends), shape=(3, 10))
    cells = cells_from_anndata(adata, SCHEMA)
    assert cells.dropped == {"all-zero": 1}
    assert cells.matrix_ng.data.tolist() == [3.0, 4.0]
    assert adata.X.nnz == 5  # the caller's matrix is as it was


def test_the_callers_anndata_is_not_changed() -> None:
    adata = make_adata(empty=2)
    before = adata.copy()
    cells = cells_from_anndata(adata, SCHEMA)
    cells.matrix_ng.data[:] = -1
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())
    pd.testing.assert_frame_equal(adata.obs, before.obs)


@pytest.mark.parametrize("layout", ["csr", "dense"])
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN or inf"), (np.inf, "NaN or inf"), (-1.0, "negative")]
)
def test_impossible_values(
    value: float, message: str, layout: str, reader: Callable[..., Cells]
) -> None:
    adata = make_adata()
    adata.X[3, 4] = value
    with pytest.raises(CellsError, match=message) as error:
        reader(laid_out(layout, adata))
    assert "1 expression values" in complaint(error)


def test_values_of_cells_that_are_filtered_out_do_not_matter() -> None:
    adata = make_adata()
    adata.X[int(np.flatnonzero(adata.obs["sex"] == "male")[0]), 4] = np.nan
    assert len(cells_from_anndata(adata, SCHEMA, CellQuery({"sex": ("female",)})))


def test_duplicate_gene_names(tmp_path: Path) -> None:
    adata = make_adata()
    adata.var["symbol"] = ["A", "B", "A", "B", *adata.var_names[4:]]
    with pytest.raises(CellsError, match="2 gene names occur more than once: A, B") as error:
        read(adata, tmp_path, CellSchema(("sex",), gene_key="symbol"))
    assert "data.gene_key" in complaint(error)


def test_missing_file_names_near_ones(tmp_path: Path) -> None:
    for name in ("zebrafish.h5ad", "kang.h5ad", "notes.txt"):
        (tmp_path / name).touch()
    with pytest.raises(CellsError, match="no such file") as error:
        read_cells(str(tmp_path / "kangg.h5ad"), SCHEMA)
    text = complaint(error)
    assert "'kang.h5ad', 'zebrafish.h5ad'" in text
    assert "notes" not in text
    with pytest.raises(CellsError, match="no such file"):
        read_cells(str(tmp_path / "nowhere" / "kang.h5ad"), SCHEMA)


def test_unknown_bundled_name() -> None:
    with pytest.raises(CellsError, match="'pbmc68k'") as error:
        resolve("bundled:pbmc86k")
    complaint(error)
    assert resolve("bundled:pbmc68k")[0].is_file()


@pytest.mark.parametrize("content", ["text", "empty", "hdf5", "empty hdf5", "cut"])
def test_not_an_anndata(content: str, tmp_path: Path) -> None:
    file = tmp_path / "cells.h5ad"
    if content == "cut":
        make_adata().write_h5ad(file)
        file.write_bytes(file.read_bytes()[:2000])
    elif "hdf5" in content:
        with h5py.File(file, "w") as stream:
            if content == "hdf5":
                stream["matrix"] = np.eye(3)
    else:
        file.write_text("gene,cell\n" if content == "text" else "")
    with pytest.raises(CellsError, match="not a readable AnnData") as error:
        read_cells(str(file), SCHEMA)
    assert str(file) in complaint(error)


def test_no_matrix_at_all(tmp_path: Path) -> None:
    with pytest.raises(CellsError, match="no expression matrix") as error:
        read(ad.AnnData(obs=make_adata().obs), tmp_path)
    complaint(error)


@pytest.mark.parametrize(
    ("schema", "query"),
    [
        (CellSchema(("disase", "sex")), {}),
        (CellSchema(("sex",), donor="disase"), {}),
        (CellSchema(("sex",), batch="disase"), {}),
        (CellSchema(("sex",)), {"disase": ("case",)}),
    ],
)
def test_missing_column_lists_those_that_exist(
    schema: CellSchema, query: dict[str, tuple], reader: Callable[..., Cells]
) -> None:
    with pytest.raises(LabelError, match="has no obs column 'disase'") as error:
        reader(make_adata(), schema, **query)
    text = complaint(error)
    assert text.index("'disease'") < text.index("'sex'")
    assert all(repr(column) in text for column in make_adata().obs.columns)


def test_missing_label_lists_the_closest_first_with_counts(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    n = adata.obs["cell_type"].value_counts()
    with pytest.raises(LabelError, match="no cell has the label 'T cel' in column") as error:
        reader(adata, cell_type=("B cell", "T cel"))
    text = complaint(error)
    assert "study.filters" in text
    places = [text.index(f"'{name}' ({n[name]})") for name in ("T cell", "B cell")]
    assert places == sorted(places)
    assert f"'NK cell' ({n['NK cell']})" in text


def test_no_cell_matches_the_filters(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    adata = adata[(adata.obs["sex"] == "female") | (adata.obs["disease"] == "case")].copy()
    with pytest.raises(CellsError, match="no cell matches the filters") as error:
        reader(adata, sex=("male",), disease=("control",))
    assert "study.filters" in complaint(error)


def test_every_cell_all_zero(reader: Callable[..., Cells]) -> None:
    with pytest.raises(CellsError, match="all-zero") as error:
        reader(make_adata(n=5, empty=5))
    complaint(error)


def test_missing_layer_raw_and_gene_key(reader: Callable[..., Cells]) -> None:
    adata = make_adata()
    adata.layers["counts"] = adata.X.copy()
    with pytest.raises(CellsError, match=r"no layer 'count'; expected one of 'counts' or") as error:
        reader(adata, CellSchema(("sex",), layer="count"))
    complaint(error)
    with pytest.raises(CellsError, match=r"has no \.raw") as error:
        reader(adata, CellSchema(("sex",), layer="raw"))
    complaint(error)
    with pytest.raises(CellsError, match=r"no var column 'symbol'.*'ensembl_id'") as error:
        reader(adata, CellSchema(("sex",), gene_key="symbol"))
    complaint(error)


def test_the_file_is_closed_again(tmp_path: Path) -> None:
    adata = make_adata()
    read(adata, tmp_path)
    with pytest.raises(LabelError):
        read(adata, tmp_path, CellSchema(("nothing",)))
    with h5py.File(tmp_path / "cells.h5ad", "r+") as stream:  # refused while open elsewhere
        assert "obs" in stream


@pytest.mark.parametrize("columns", [(), ("sex", "sex")])
def test_schema_needs_distinct_columns(columns: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"data\.phenotypes"):
        CellSchema(columns)
