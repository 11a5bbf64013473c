"""Cells of several files are those of one, read row by row, in any process."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tracemalloc
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import (
    CellQuery,
    CellSchema,
    CellShards,
    files,
    read_cells,
    write_synthetic_shards,
)
from gradgene.errors import CellsError, LabelError
from tests.planted import PHENOTYPES, make_adata

SCHEMA = CellSchema(PHENOTYPES, donor="donor")
LAYOUTS: dict[str, Callable[[sparse.csr_matrix], object]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": lambda matrix: matrix.toarray(),
    "integers": lambda matrix: matrix.astype(np.int32),
}


def pieces(adata: ad.AnnData, n: int = 3) -> list[ad.AnnData]:
    """The cells of `adata` in `n` parts, each with its own order of genes and some of them gone."""
    rng = np.random.default_rng(1)
    rows = np.array_split(np.arange(adata.n_obs), n)
    columns = [rng.permutation(adata.n_vars)[i:] for i in range(n)]
    return [adata[r][:, c].copy() for r, c in zip(rows, columns, strict=True)]


def write_zarr(adata: ad.AnnData, path: Path, version: int = 2) -> None:
    """anndata and zarr announce changes of their formats on writing."""
    with warnings.catch_warnings(), ad.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        adata.write_zarr(path)


def write(parts: list[ad.AnnData], folder: Path, layout: str = "csr", kind: str = "h5ad") -> str:
    """Write the parts and return the glob that finds them."""
    for i, part in enumerate(parts):
        part = part.copy()
        part.X = LAYOUTS[layout](sparse.csr_matrix(part.X))
        if kind == "h5ad":
            part.write_h5ad(folder / f"part{i}.h5ad")
        else:
            write_zarr(part, folder / f"part{i}.zarr", int(kind.removeprefix("zarr")))
    return f"{folder}/*"


def expected(parts: list[ad.AnnData], genes: tuple[str, ...]) -> np.ndarray:
    """(cells, genes) counts by gene name, zero where a part lacks a gene; by pandas."""
    frames = [p.to_df().reindex(columns=list(genes), fill_value=0) for p in parts]
    return pd.concat(frames).to_numpy()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[CellShards, np.ndarray]:
    """Three CSR files, and their counts as one table."""
    parts = pieces(make_adata(n=61))
    shards = CellShards.open(write(parts, tmp_path_factory.mktemp("shards")), SCHEMA)
    return shards, expected(parts, shards.genes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """The pieces of the planted cells in a layout and format, written once each; their glob."""

    @cache
    def write_once(layout: str, kind: str) -> str:
        return write(pieces(make_adata()), tmp_path_factory.mktemp("stored"), layout, kind)

    return write_once


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("kind", ["h5ad", "zarr2", "zarr3"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_agree(
    layout: str,
    kind: str,
    small: bool,
    stored: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if small:  # many blocks, runs and chunks instead of one
        for name, value in (("BLOCK", 7), ("LONGEST", 100), ("GAP", 3)):
            monkeypatch.setattr(files, name, value)
        monkeypatch.setattr(files, "_chunk", lambda array: 0)
    parts = pieces(make_adata())
    shards = CellShards.open(stored(layout, kind), SCHEMA)
    dense_ng = expected(parts, shards.genes)
    cells = shards.load()
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), dense_ng)
    assert cells.matrix_ng.dtype == np.float32 and cells.matrix_ng.has_canonical_format
    np.testing.assert_array_equal(shards.nnz_n, (dense_ng > 0).sum(axis=1))
    rows = np.array([59, 3, 3, 20, 41, 0])
    np.testing.assert_array_equal(shards.read(rows).matrix_ng.toarray(), dense_ng[rows])
    assert any("stored by gene" in note for note in shards.notes) == (layout == "csc")


def test_what_is_joined(opened: tuple[CellShards, np.ndarray]) -> None:
    shards, _ = opened
    whole = make_adata(n=61)
    assert len(shards) == len(shards.obs) == 61
    assert [f.name for f in shards.files] == ["part0.h5ad", "part1.h5ad", "part2.h5ad"]
    assert sorted(shards.genes) == sorted(whole.var_names)
    ids = dict(zip(whole.var_names, whole.var["ensembl_id"], strict=True))
    assert shards.ensembl_ids == tuple(ids[g] for g in shards.genes)
    assert list(shards.obs.index) == list(whole.obs_names)
    for column in (*PHENOTYPES, "donor"):
        assert isinstance(shards.obs[column].dtype, pd.CategoricalDtype)
        assert list(shards.obs[column]) == list(whole.obs[column])
    assert "2 of 3 files lack genes" in shards.notes[0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 60), max_size=40))
def test_rows_come_in_the_order_asked_for(
    rows: list[int], opened: tuple[CellShards, np.ndarray]
) -> None:
    shards, dense_ng = opened
    cells = shards[np.array(rows, dtype=int)]
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), dense_ng[rows].reshape(-1, 50))
    assert list(cells.obs.index) == [f"cell{i}" for i in rows]
    assert set(cells.obs.dtypes) == {np.dtype(object)}
    assert (cells.genes, cells.schema) == (shards.genes, SCHEMA)


@pytest.mark.parametrize("rows", [[61], [-1], [0, 7, 400]])
def test_rows_out_of_range(rows: list[int], opened: tuple[CellShards, np.ndarray]) -> None:
    with pytest.raises(CellsError, match="out of range; expected 0 to 60"):
        opened[0].read(rows)


def test_filters_and_empty_cells_across_files(tmp_path: Path) -> None:
    whole = make_adata(n=61, empty=2)
    counts_ng = whole.X.toarray()
    counts_ng[[10, 30]] = 0
    whole.X = sparse.csr_matrix(counts_ng)
    parts = pieces(whole)
    shards = CellShards.open(write(parts, tmp_path), SCHEMA, CellQuery({"sex": ("female",)}))
    female_n = (whole.obs["sex"] == "female").to_numpy()
    empty_n = np.asarray(whole.X.sum(axis=1)).ravel() == 0
    assert shards.dropped == {
        "filtered out": int((~female_n).sum()),
        "all-zero": int((female_n & empty_n).sum()),
    }
    kept_n = female_n & ~empty_n
    assert list(shards.obs.index) == list(whole.obs_names[kept_n])
    dense_ng = expected(parts, shards.genes)[kept_n]
    backwards = np.arange(len(shards))[::-1]
    np.testing.assert_array_equal(shards.read(backwards).matrix_ng.toarray(), dense_ng[::-1])


def test_stored_zeros(tmp_path: Path) -> None:
    """`nnz_n` counts them, the matrix does not hold them; loading drops cells of zeros alone."""
    adata = make_adata(n=4, n_genes=10)
    data, columns, ends = [0.0, 0.0, 1.0, 0.0, 4.0, 2.0], [0, 1, 5, 6, 0, 3], [0, 2, 4, 5, 6]
    adata.X = sparse.csr_matrix((np.array(data, dtype=np.float32), columns, ends), shape=(4, 10))
    adata.write_h5ad(tmp_path / "a.h5ad")
    shards = CellShards.open(f"{tmp_path}/a.h5ad", SCHEMA)
    assert shards.nnz_n.tolist() == [2, 2, 1, 1]
    assert shards.read([1, 0]).matrix_ng.nnz == 1
    loaded = shards.load()
    assert loaded.dropped == {"all-zero": 1}
    assert list(loaded.obs.index) == ["cell1", "cell2", "cell3"]
    assert loaded.matrix_ng.data.tolist() == [1.0, 4.0, 2.0]


def test_label_sets_may_differ_but_not_columns(tmp_path: Path) -> None:
    parts = pieces(make_adata())
    parts[0].obs["sex"] = pd.Categorical(["female"] * 20, categories=["never", "female"])
    parts[1].obs["sex"] = ["unknown"] * 20
    parts[2].obs["sex"] = pd.Categorical(["male", None] * 10)
    path = write(parts, tmp_path)
    shards = CellShards.open(path, SCHEMA)
    assert list(shards.obs["sex"].cat.categories) == ["female", "male"]
    assert shards.obs["sex"].isna().sum() == 30
    assert "30 of 60 cells have no label in 'sex' (unknown, empty or NaN)" in shards.notes
    assert shards.read([25, 40]).counts_of("sex") == {"male": 1}
    with pytest.raises(LabelError, match="no cell has the label 'unknown' in column 'sex'"):
        CellShards.open(path, SCHEMA, CellQuery({"sex": ("unknown",)}))
    males = CellShards.open(path, SCHEMA, CellQuery({"sex": ("male",)}))
    assert len(males) == 10  # a label of one file alone can be asked for
    del parts[1].obs["sex"]
    write(parts, tmp_path)
    with pytest.raises(LabelError, match=r"part1\.h5ad: has no obs column 'sex'"):
        CellShards.open(path, SCHEMA)


def test_names_that_occur_in_two_files_say_which(tmp_path: Path) -> None:
    parts = pieces(make_adata(), 2)
    parts[1].obs_names = parts[0].obs_names
    shards = CellShards.open(write(parts, tmp_path), SCHEMA)
    assert shards.obs.index[0] == "part0:cell0" and shards.obs.index[30] == "part1:cell0"
    assert shards.obs.index.is_unique


def test_values_are_checked_on_every_read(tmp_path: Path) -> None:
    parts = pieces(make_adata())
    parts[1].X.data[0] = 0.5
    shards = CellShards.open(write(parts, tmp_path), SCHEMA)
    shards.read(np.arange(20))
    with pytest.raises(CellsError, match=r"part1\.h5ad: values declared as counts are not whole"):
        shards.read([20])
    with pytest.raises(CellsError, match="not whole"):
        shards.load()


def test_layers_and_raw(tmp_path: Path) -> None:
    parts = pieces(make_adata(), 2)
    for part in parts:
        part.layers["twice"] = part.X * 2
        part.raw = part.copy()
    parts = [p[:, :20].copy() for p in parts]
    path = write(parts, tmp_path)
    own = CellShards.open(path, SCHEMA)
    twice = CellShards.open(path, CellSchema(PHENOTYPES, layer="twice"))
    assert twice.genes == own.genes
    both = zip(twice.load().matrix_ng.toarray(), own.load().matrix_ng.toarray(), strict=True)
    assert all(np.array_equal(a, 2 * b) for a, b in both)
    raw = CellShards.open(path, CellSchema(PHENOTYPES, layer="raw"))
    assert len(raw.genes) == 50
    with pytest.raises(CellsError, match=r"part0\.h5ad: has no layer 'twices'"):
        CellShards.open(path, CellSchema(PHENOTYPES, layer="twices"))


def test_a_list_of_both_formats_keeps_its_order(tmp_path: Path) -> None:
    parts = pieces(make_adata(), 2)
    write_zarr(parts[0], tmp_path / "b.zarr")
    parts[1].write_h5ad(tmp_path / "a.h5ad")
    cells = read_cells([f"{tmp_path}/b.zarr", f"{tmp_path}/a.h5ad"], SCHEMA)
    assert list(cells.obs.index) == [f"cell{i}" for i in range(60)]
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), expected(parts, cells.genes))


def total(shards: CellShards) -> float:
    """Runs in another process."""
    return float(shards.read(np.arange(len(shards))).matrix_ng.sum())


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_processes_read_by_themselves(
    method: str, opened: tuple[CellShards, np.ndarray]
) -> None:
    shards, dense_ng = opened
    shards.read([0])  # whatever a parent may have opened
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(total, [shards, shards]) == [dense_ng.sum()] * 2
    again: CellShards = pickle.loads(pickle.dumps(shards))
    np.testing.assert_array_equal(again.read([60, 1]).matrix_ng.toarray(), dense_ng[[60, 1]])


def test_files_that_change_or_go(tmp_path: Path) -> None:
    parts = pieces(make_adata(), 1)
    shards = CellShards.open(write(parts, tmp_path), SCHEMA)
    write(pieces(make_adata(seed=3), 1), tmp_path)
    with pytest.raises(CellsError, match=r"part0\.h5ad: (has changed|is not a readable)"):
        shards.load()
    (tmp_path / "part0.h5ad").unlink()
    with pytest.raises(CellsError, match=r"part0\.h5ad: is not a readable AnnData file"):
        shards.read([0])


def test_a_file_that_is_not_anndata_is_named(tmp_path: Path) -> None:
    path = write(pieces(make_adata()), tmp_path)
    (tmp_path / "part1.h5ad").write_text("gene,cell\n")
    with pytest.raises(CellsError, match=r"part1\.h5ad: is not a readable AnnData file"):
        CellShards.open(path, SCHEMA)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(CellsError, match=r"empty\.zarr: is not a readable AnnData file"):
        CellShards.open(f"{tmp_path}/empty.zarr", SCHEMA)


def test_layers_are_never_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening and reading touch obs, var and slices; not the matrices as a whole."""
    parts = pieces(make_adata(), 1)
    parts[0].layers["other"] = parts[0].X.copy()
    path = write(parts, tmp_path)
    read = []
    original = ad.io.read_elem

    def spy(elem: object) -> object:
        read.append(elem.name)  # type: ignore[attr-defined]
        return original(elem)

    monkeypatch.setattr(ad.io, "read_elem", spy)
    CellShards.open(path, SCHEMA).load()
    assert read and all(name.startswith(("/obs", "/var")) for name in read)


def test_memory_is_that_of_what_is_asked_for(tmp_path: Path) -> None:
    """Opening and streaming take a fraction of what all cells would."""
    write_synthetic_shards(tmp_path, 20_000, 4, n_genes=500, genes_per_cell=100)
    schema = CellSchema(("disease", "cell_type"), "donor_id")
    tracemalloc.start()
    try:
        shards = CellShards.open(f"{tmp_path}/*.h5ad", schema)
        blocks = np.random.default_rng(0).permutation(20_000).reshape(-1, 500)
        n_read = sum(shards.read(np.sort(rows)).matrix_ng.nnz for rows in blocks)
        _, streaming = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        whole = shards.load().matrix_ng
        _, loading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_read == whole.nnz == shards.nnz_n.sum()
    assert loading > 8 * whole.nnz  # an index and a value each
    assert streaming < loading / 2


def _damage(file: Path, what: str) -> None:
    """Make a sound CSR file contradict itself."""
    with h5py.File(file, "r+") as store:
        matrix = store["X"]
        if what == "index":
            matrix["indices"][3] = 5000
        elif what == "pointer":
            matrix["indptr"][5] = 10**9
        elif what == "columns":
            matrix.attrs["shape"] = [matrix.attrs["shape"][0], matrix.attrs["shape"][1] + 1]
        else:
            pointers = matrix["indptr"][:-1]
            pointers[-1] = len(matrix["data"])
            del matrix["indptr"]
            matrix["indptr"] = pointers
            matrix.attrs["shape"] = [matrix.attrs["shape"][0] - 1, matrix.attrs["shape"][1]]


@pytest.mark.parametrize("what", ["index", "pointer", "columns", "rows"])
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, what: str) -> None:
    file = tmp_path / "cells.h5ad"
    adata = make_adata()
    adata.X = sparse.csr_matrix(adata.X)
    adata.write_h5ad(file)
    read_cells(str(file), SCHEMA)
    _damage(file, what)
    with pytest.raises(CellsError, match="not a readable AnnData file"):
        read_cells(str(file), SCHEMA)


def test_a_zarr_that_asks_to_be_unpickled_is_refused(tmp_path: Path) -> None:
    """numcodecs can unpickle chunks; it raises instead, and that is one line."""
    file = tmp_path / "cells.zarr"
    write_zarr(make_adata(), file)
    names = file / "obs" / "_index"
    meta = json.loads((names / ".zarray").read_text())
    meta["filters"] += [{"id": "pickle", "protocol": 4}]
    meta["compressor"] = None
    (names / ".zarray").write_text(json.dumps(meta))
    (names / "0").write_bytes(pickle.dumps(Touch(tmp_path / "run")))
    (file / ".zmetadata").unlink(missing_ok=True)
    with pytest.raises(CellsError, match="not a readable AnnData file"):
        read_cells(str(file), SCHEMA)
    assert not (tmp_path / "run").exists()


class Touch:
    """Pickles as a call that creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_names_that_occur_in_files_of_one_name_say_which_folder(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make_adata().write_h5ad(tmp_path / folder / "cells.h5ad")
    shards = CellShards.open(f"{tmp_path}/*/cells.h5ad", SCHEMA)
    assert shards.obs.index.is_unique
    assert shards.obs.index[0] == f"{tmp_path}/a/cells.h5ad:cell0"
