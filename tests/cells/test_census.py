"""Drawing cells from CELLxGENE Census, against a store of its layout that the test writes."""

from __future__ import annotations

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gradgene.cells.census import CENSUS_COLUMNS, CensusQuery, fetch_cells
from gradgene.errors import CellsError, ConfigError, LabelError

pytest.importorskip(
    "cellxgene_census", reason="needs cellxgene-census: pip install 'gradgene[census]'"
)

#: Labels with a comma and with both kinds of quotes, as ontologies have them.
T_CELL, ASSAY = "CD4-positive, alpha-beta T cell", "10x 3' v3"
N, N_GENES = 600, 15


def census_obs() -> pd.DataFrame:
    """Cells of four donors a disease, of very different numbers; some copies, some unknown donors.

    Donors `a0 … a3` have Alzheimer disease; a0 has most of its cells.
    """
    rng = np.random.default_rng(1)
    ill = rng.random(N) < 0.5
    donor = np.where(rng.random(N) < 0.7, 0, rng.integers(1, 4, N))
    names = np.where(ill, "a", "n").astype(object) + donor.astype(str)
    names[rng.random(N) < 0.05] = "unknown"
    return pd.DataFrame(
        {
            "cell_type": rng.choice(["microglial cell", T_CELL], N, p=[0.7, 0.3]),
            "tissue": rng.choice(["cortex", "hippocampus"], N),
            "tissue_general": np.where(rng.random(N) < 0.9, "brain", "eye"),
            "disease": np.where(ill, "Alzheimer disease", "normal"),
            "development_stage": "80-year-old stage",
            "sex": rng.choice(["female", "unknown"], N),
            "assay": rng.choice([ASSAY, 'the "other" one'], N),
            "donor_id": names,
            "dataset_id": "set",
            "is_primary_data": rng.random(N) < 0.8,
        }
    )


OBS = census_obs()
COUNTS_NG = np.random.default_rng(2).poisson(0.7, (N, N_GENES))
BOTH = ("Alzheimer disease", "normal")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.census_store import write_census

    return write_census(tmp_path_factory.mktemp("soma") / "census", OBS, COUNTS_NG)


def query(store: Path, n: int = 60, seed: int = 0, **labels: tuple[str, ...]) -> CensusQuery:
    wanted = {"disease": BOTH, "tissue_general": ("brain",), **labels}
    return CensusQuery(wanted, n=n, seed=seed, census=str(store))


def rows(cells: ad.AnnData) -> np.ndarray:
    """Row of the store of each cell fetched."""
    return np.array([int(name.removeprefix("census-")) for name in cells.obs_names])


def test_only_primary_cells_of_the_labels_with_their_own_counts(store: Path) -> None:
    cells = fetch_cells(query(store, 200, cell_type=("microglial cell",), assay=(ASSAY,)))
    mine = OBS.iloc[rows(cells)]
    assert mine["is_primary_data"].all() and (mine["tissue_general"] == "brain").all()
    assert set(mine["cell_type"]) == {"microglial cell"} and set(mine["assay"]) == {ASSAY}
    assert "unknown" not in set(mine["donor_id"])
    for column in CENSUS_COLUMNS:
        assert cells.obs[column].astype(str).tolist() == mine[column].tolist(), column
        assert cells.obs[column].dtype == "category"
    np.testing.assert_array_equal(cells.X.toarray(), COUNTS_NG[rows(cells)])
    assert cells.var_names.tolist() == [f"ENSG{i:011d}" for i in range(N_GENES)]
    assert cells.var["feature_name"].tolist() == [f"g{i}" for i in range(N_GENES)]


def test_labels_get_equal_numbers_and_donors_as_equal_as_can_be(store: Path) -> None:
    cells = fetch_cells(query(store, 41))
    assert cells.obs["disease"].value_counts().to_dict() == {BOTH[0]: 21, BOTH[1]: 20}
    for label in BOTH:
        fits = (OBS["disease"] == label) & (OBS["tissue_general"] == "brain")
        fits &= OBS["is_primary_data"] & (OBS["donor_id"] != "unknown")
        stock = OBS[fits].groupby("donor_id").size()
        drawn = cells.obs[cells.obs["disease"] == label].groupby("donor_id", observed=True).size()
        left = drawn[drawn < stock.reindex(drawn.index)]
        # No donor with cells to spare has fewer than another donor, save for the last turn.
        assert set(drawn.index) == set(stock.index)
        assert left.min() >= drawn.max() - 1


def test_the_same_seed_draws_the_same_cells_and_another_one_others(store: Path) -> None:
    first, again, other = (rows(fetch_cells(query(store, seed=s))) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_asking_for_more_than_there_is_gives_all_there_is(store: Path) -> None:
    cells = fetch_cells(query(store, 10_000))
    fits = OBS["is_primary_data"] & (OBS["tissue_general"] == "brain")
    assert cells.n_obs == int((fits & (OBS["donor_id"] != "unknown")).sum())


def test_the_file_says_where_its_cells_are_from(store: Path, tmp_path: Path) -> None:
    from tests.census_store import BUILD_DATE

    asked = query(store, 20, assay=(ASSAY,))
    fetch_cells(asked).write_h5ad(tmp_path / "cells.h5ad")
    source = ad.read_h5ad(tmp_path / "cells.h5ad").uns["census"]
    assert source["version"] == BUILD_DATE and source["seed"] == 0 and source["n"] == 20
    assert source["filter"] == asked.value_filter
    assert asked.value_filter.startswith("is_primary_data == True and disease in ['Alzheimer dis")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"diseas": ("normal",)}, ["no obs column 'diseas'", "'disease'"]),
        ({"cell_type": ("microglia",)}, ["no label 'microglia'", "'microglial cell'"]),
        ({"disease": ("normal", "Alzheimers")}, ["'Alzheimers'", "'Alzheimer disease'"]),
    ],
)
def test_what_the_census_does_not_have(store: Path, labels: dict, says: list[str]) -> None:
    with pytest.raises(LabelError) as caught:
        fetch_cells(query(store, **labels))
    for text in says:
        assert text in str(caught.value)


def test_labels_that_never_meet(store: Path) -> None:
    with pytest.raises(LabelError, match="no cell has the label 'normal'"):
        fetch_cells(query(store, donor_id=("a0", "a1")))  # donors with Alzheimer disease only


def test_a_place_without_a_census(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CellsError, match=r"census=.*cannot be read"):
        fetch_cells(CensusQuery({"disease": BOTH}, census=str(tmp_path / "empty")))
    with pytest.raises(CellsError, match="no such folder"):
        fetch_cells(CensusQuery({"disease": BOTH}, census=str(tmp_path / "nowhere")))


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellxgene_census", None)
    with pytest.raises(ConfigError, match=r"pip install 'gradgene\[census\]'"):
        fetch_cells(CensusQuery({"disease": BOTH}))


@pytest.mark.parametrize("labels", [{}, {"disease": ()}])
def test_a_query_names_labels(labels: dict) -> None:
    with pytest.raises(ConfigError, match="COLUMN=LABEL"):
        CensusQuery(labels)


def test_the_first_column_with_several_labels_is_balanced() -> None:
    labels = {"tissue": ("a",), "disease": ("x", "y"), "sex": ("f", "m", "?")}
    assert CensusQuery(labels).balanced == "disease"
    assert CensusQuery({"tissue": ("a",)}).balanced == "tissue"
    with pytest.raises(ConfigError, match="2 or more"):
        CensusQuery(labels, n=1)
