"""Synthetic files look like CELLxGENE's, and their planted genes follow the labels."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from gradgene.cells import CellSchema, CellShards, SyntheticShards, write_synthetic_shards
from gradgene.errors import ConfigError

COLUMNS = [
    "cell_type",
    "tissue",
    "disease",
    "development_stage",
    "sex",
    "assay",
    "donor_id",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SyntheticShards:
    """1,500 cells of 300 genes in three files."""
    folder = tmp_path_factory.mktemp("synthetic")
    return write_synthetic_shards(
        folder, 1500, 3, n_genes=300, genes_per_cell=60, unknown=0.1, seed=4
    )


def test_shape_of_the_files(written: SyntheticShards) -> None:
    files = [ad.read_h5ad(path) for path in written.paths]
    assert [f.n_obs for f in files] == [500, 500, 500]
    for file in files:
        assert list(file.obs.columns) == COLUMNS
        assert file.var_names.str.fullmatch(r"ENSG\d{11}").all()
        assert 280 < file.n_vars < 300
        assert (file.X.data == np.round(file.X.data)).all() and file.X.data.min() >= 1
        assert file.X.has_sorted_indices
        assert len(set(file.obs["cell_type"]) - {"unknown"}) == 3
    orders = {tuple(f.var_names[:10]) for f in files}
    assert len(orders) == 3
    assert len({frozenset(f.obs["cell_type"]) for f in files}) == 3
    names = [name for f in files for name in f.obs_names]
    assert len(set(names)) == 1500


def test_they_open_as_one_data_set(written: SyntheticShards) -> None:
    schema = CellSchema(("disease", "cell_type", "sex"), "donor_id", gene_key="feature_name")
    shards = CellShards.open([str(p) for p in written.paths], schema)
    assert len(shards) == 1500 and len(shards.genes) == 300
    assert 0.05 < shards.obs["cell_type"].isna().mean() < 0.15
    assert 50 < shards.nnz_n.mean() < 66
    assert shards.nnz_n.max() > 1.5 * shards.nnz_n.min()
    of_donor = shards.obs.groupby("donor_id", observed=True)
    assert (of_donor["sex"].nunique() == 1).all()
    assert (of_donor["disease"].nunique() == 2).all()


def test_planted_genes_are_up_in_their_label_and_no_others(written: SyntheticShards) -> None:
    schema = CellSchema(("disease",), "donor_id", gene_key="feature_name")
    cells = CellShards.open([str(p) for p in written.paths], schema).load()
    share = cells.matrix_ng.toarray()
    share /= share.sum(axis=1, keepdims=True)
    is_normal = (cells.obs["disease"] == "normal").to_numpy()
    up = share[is_normal].mean(axis=0) / share[~is_normal].mean(axis=0)
    ratio = dict(zip(cells.genes, up, strict=True))
    of = written.planted["disease"]
    assert set(of) == {"normal", "influenza"} and len(of["normal"]) == 5
    assert min(ratio[g] for g in of["normal"]) > 2
    assert max(ratio[g] for g in of["influenza"]) < 0.5
    common = [g for g in cells.genes if g not in of["normal"] + of["influenza"]]
    frequent = [g for g in common if share[:, cells.genes.index(g)].mean() > 0.003]
    assert len(frequent) > 50
    assert all(0.7 < ratio[g] < 1.4 for g in frequent)


def test_seeded_in_both_formats(tmp_path: Path) -> None:
    schema = CellSchema(("disease",), "donor_id")
    cells = []
    for name, kind, seed in (("a", "h5ad", 1), ("b", "zarr", 1), ("c", "h5ad", 2)):
        made = write_synthetic_shards(
            tmp_path / name,
            60,
            2,
            100,
            20,
            seed=seed,
            format=kind,  # type: ignore[arg-type]
        )
        cells.append(CellShards.open([str(p) for p in made.paths], schema).load())
    first, again, other = cells
    assert first.genes == again.genes
    np.testing.assert_array_equal(first.matrix_ng.toarray(), again.matrix_ng.toarray())
    assert list(first.obs["disease"]) == list(again.obs["disease"])
    assert list(first.obs["disease"]) != list(other.obs["disease"])


def test_own_labels(tmp_path: Path) -> None:
    labels = {"disease": ["normal", "dilated cardiomyopathy"], "self_reported": ["x"]}
    made = write_synthetic_shards(tmp_path, 50, n_genes=100, genes_per_cell=20, labels=labels)
    adata = ad.read_h5ad(made.paths[0])
    assert set(adata.obs["disease"]) == set(labels["disease"])
    assert set(adata.obs["self_reported"]) == {"x"}
    assert adata.n_vars == 100
    assert "dilated cardiomyopathy" in made.planted["disease"]


@pytest.mark.parametrize(("cells", "shards", "genes"), [(3, 4, 100), (3, 0, 100), (3, 1, 30)])
def test_impossible_sizes(tmp_path: Path, cells: int, shards: int, genes: int) -> None:
    with pytest.raises(ConfigError):
        write_synthetic_shards(tmp_path, cells, shards, genes, 10)
