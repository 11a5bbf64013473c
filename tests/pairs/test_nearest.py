"""The nearest controls: known ones in toys, a full decomposition as the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import pdist

from gradgene.cells import Cells, CellSchema, log_normalise
from gradgene.errors import PairError
from gradgene.pairs import PairSampler
from gradgene.pairs.nearest import nearest_controls, principal_components
from tests.planted import make_cells


def cells_of(values: Any, **labels: Any) -> Cells:
    """Prepared cells of these values (cells, genes) and labels."""
    values_ng = np.asarray(values, dtype=np.float32)
    n, g = values_ng.shape
    obs = pd.DataFrame({"disease": "case", **labels}, index=[f"c{i}" for i in range(n)])
    schema = CellSchema(("disease",), "donor" if "donor" in labels else None, values="lognorm")
    genes = tuple(f"g{i}" for i in range(g))
    return Cells(sparse.csr_matrix(values_ng), obs, genes, ("",) * g, schema)


def line(places: list[float], n_genes: int = 60) -> np.ndarray:
    """Cells on one line through the space of `n_genes` genes."""
    return np.outer(places, np.linspace(0.5, 1.5, n_genes))


PLACES = [0.0, 5.0, 1.0, 4.0, 2.0, 9.0, 4.0]
DISEASE = ["case"] * 2 + ["control"] * 5


@pytest.mark.parametrize("n_genes", [3, 60])
@pytest.mark.parametrize("n_components", [1, 5])
def test_the_known_nearest(n_genes: int, n_components: int) -> None:
    """On a line: next to 0 lie 1, 2 and 4; next to 5 the two cells at 4, then 2."""
    cells = cells_of(line(PLACES, n_genes), disease=DISEASE)
    sampler = PairSampler(
        "disease", "case", "control", (), 3, matching="nearest", n_components=n_components
    )
    table = sampler.sample(cells).table
    found = {i: mine["baseline_row"].tolist() for i, mine in table.groupby("input_row")}
    assert found == {0: [2, 4, 3], 1: [3, 6, 4]}, "equal ones in the order of cells"
    unit = np.linalg.norm(np.linspace(0.5, 1.5, n_genes))
    distances = {i: mine["distance"].to_numpy() for i, mine in table.groupby("input_row")}
    np.testing.assert_allclose(distances[0] / unit, [1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(distances[1] / unit, [1, 1, 3], rtol=1e-6)


def test_the_stratum_and_the_donor_come_first() -> None:
    """The nearest cell of another type or donor is none."""
    cells = cells_of(
        line([0.0, 0.1, 0.2, 3.0, 4.0]),
        disease=["case"] + ["control"] * 4,
        cell_type=["T", "B", "T", "T", "T"],
        donor=["a", "a", "b", "a", "a"],
    )
    sampler = PairSampler("disease", "case", "control", ("cell_type",), matching="nearest")
    assert sampler.sample(cells).baseline_rows.tolist() == [2]
    same = replace(sampler, donors="same").sample(cells)
    assert same.baseline_rows.tolist() == [3]
    assert same.table["donor_baseline"].tolist() == ["a"]


def test_one_control_may_serve_many_inputs() -> None:
    cells = cells_of(line([0, 1, 2, 3, 50, 3.5]), disease=["case"] * 4 + ["control"] * 2)
    plan = PairSampler("disease", "case", "control", (), matching="nearest").sample(cells)
    assert plan.baseline_rows.tolist() == [5] * 4 and plan.control_rows.tolist() == [5]
    assert plan.strata()["n_baselines"].item() == 1 and plan.strata()["n_controls"].item() == 2


def test_inputs_are_drawn_as_for_random_controls() -> None:
    cells = log_normalise(make_cells(n=80, n_genes=60))
    sampler = PairSampler("disease", "case", "control", ("cell_type",), 2, max_pairs=21, seed=3)
    random = sampler.sample(cells)
    near = replace(sampler, matching="nearest").sample(cells)
    assert random.table["input"].tolist() == near.table["input"].tolist()
    assert len(near) == 21
    assert near.table["distance"].notna().all() and random.table["distance"].isna().all()
    others = replace(sampler, matching="nearest", seed=4).sample(cells)
    both = near.table.merge(others.table, on=["input", "baseline"], suffixes=("", "_other"))
    assert len(both)
    assert both["distance"].equals(both["distance_other"]), "the seed does not move the space"


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_equals_a_loop_over_controls(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 3, (20, 2)).astype(float)  # a coarse grid: many are equally far
    controls = np.sort(rng.choice(np.arange(1, 20), 7, replace=False))
    rows, distances = nearest_controls(place, 0, controls, n)
    away = [(float(np.sqrt(((place[c] - place[0]) ** 2).sum())), int(c)) for c in controls]
    assert rows.tolist() == [c for _, c in sorted(away)[:n]]
    np.testing.assert_allclose(distances, [d for d, _ in sorted(away)[:n]], rtol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 15])
def test_distances_are_those_of_a_full_decomposition(k: int) -> None:
    values = np.random.default_rng(0).random((40, 60)) * (np.arange(60) % 7)
    values[np.random.default_rng(1).random(values.shape) < 0.5] = 0
    cells = cells_of(values)
    place = principal_components(cells, k)
    assert place.shape == (40, k)
    centred = cells.matrix_ng.toarray().astype(float)
    centred -= centred.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pdist(place), pdist(u[:, :k] * s[:k]), rtol=1e-8, atol=1e-8)


def test_deterministic_and_of_these_cells_alone() -> None:
    cells = log_normalise(make_cells(n=50, n_genes=80))
    place = principal_components(cells, 10)
    np.testing.assert_array_equal(place, principal_components(cells, 10))
    part = principal_components(cells.take(np.arange(25)), 10)
    assert not np.allclose(pdist(part), pdist(place[:25]))
    raw = principal_components(make_cells(n=50, n_genes=80), 10)
    np.testing.assert_array_equal(place, raw)  # counts are log-normalised first


def test_equal_cells_are_at_equal_places() -> None:
    values = np.repeat(np.random.default_rng(0).random((6, 70)), 4, axis=0)
    place = principal_components(cells_of(values), 5)
    np.testing.assert_array_equal(place[::4], place[3::4])


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("k", [1, 50, 100])
def test_few_cells(n: int, k: int) -> None:
    values = np.random.default_rng(0).random((n, 60))
    place = principal_components(cells_of(values), k)
    assert len(place) == n and np.isfinite(place).all()
    if k >= n - 1:
        np.testing.assert_allclose(pdist(place), pdist(values), rtol=1e-5)


def test_cells_that_are_all_alike() -> None:
    place = principal_components(cells_of(np.ones((6, 60))), 5)
    assert (pdist(place) == 0).all()
    assert (pdist(principal_components(cells_of(np.zeros((6, 60))), 5)) == 0).all()


def test_values_that_are_not_finite() -> None:
    values = np.ones((6, 60))
    values[2, 3] = np.nan
    with pytest.raises(PairError, match="NaN"):
        principal_components(cells_of(values), 5)
