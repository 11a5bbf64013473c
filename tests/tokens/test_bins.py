"""Bins against NumPy in float64 and against a loop over cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.errors import TokenError
from gradgene.tokens import Bins

edges_strategy = st.lists(
    st.floats(0.01, 9).map(lambda x: round(x, 3)), unique=True, min_size=1, max_size=40
).map(sorted)
values = st.floats(2**-7, 12, width=32)


def one_cell(data: list[float] | np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.atleast_2d(np.asarray(data, dtype=np.float32)))


@given(edges=edges_strategy, data=st.lists(values, min_size=1, max_size=20))
def test_fixed_bins_are_those_of_float64(edges: list[float], data: list[float]) -> None:
    """Values at, just below and just above every edge count the edges that they reach."""
    at = np.array(edges, dtype=np.float32)
    around = [at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(99))]
    cell = np.concatenate([*around, np.array(data, dtype=np.float32)])
    expected = [sum(float(x) >= edge for edge in edges) for x in cell]
    assert Bins(tuple(edges)).assign(one_cell(cell)).tolist() == expected
    wide = sparse.csr_matrix(cell.astype(np.float64))
    assert Bins(tuple(edges)).assign(wide).tolist() == expected


def test_a_value_at_an_edge_goes_up() -> None:
    """0.7 in float32 is a little less than 0.7, and 0.1 a little more than 0.1."""
    assert Bins((0.5, 0.7)).assign(one_cell([0.5, 0.7, 0.25])).tolist() == [1, 1, 0]
    assert Bins((0.1, 0.5)).assign(one_cell([0.1, 0.5])).tolist() == [1, 2]


def test_equal_bins_divide_the_range_of_the_edges() -> None:
    bins = Bins.of("equal", (0.1, 4.0, 9.0), 10)
    np.testing.assert_allclose(np.diff(bins.edges), 8.9 / 9)
    assert (bins.edges[0], bins.edges[-1], len(bins), bins.threshold) == (0.1, 9.0, 10, 0.1)
    assert bins.assign(one_cell([0.05, 0.1, 1.0, 1.1, 8.9, 12.0])).tolist() == [0, 1, 1, 2, 9, 10]


def test_quantile_bins_hold_equally_many_values() -> None:
    rng = np.random.default_rng(0)
    matrix_ng = one_cell(rng.permutation(np.arange(1, 101)) / 10)
    for n_bins in (1, 2, 4, 5, 10):
        bins = Bins.of("quantile", (0.05, 3.0), n_bins)
        assert (len(bins), bins.threshold) == (n_bins, 0.05)
        found = bins.assign(matrix_ng)
        assert np.bincount(found).tolist() == [0] + [100 // n_bins] * n_bins
        order = np.argsort(matrix_ng.data)
        assert (np.diff(found[order]) >= 0).all()


matrices = st.integers(1, 8).flatmap(
    lambda g: st.lists(
        st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.5, 1, 2, 3]), min_size=g, max_size=g),
        min_size=1,
        max_size=5,
    )
)


@given(matrix=matrices, n_bins=st.integers(1, 6))
def test_quantile_bins_against_a_loop(matrix: list[list[float]], n_bins: int) -> None:
    """Each cell by itself; ties share the bin of the lowest of them."""
    matrix_ng = sparse.csr_matrix(np.array(matrix, dtype=np.float32))
    expected = []
    for row in matrix:
        mine = [x for x in row if x >= 0.1]
        for x in row:
            lower = sum(other < x for other in mine)
            if x:
                expected.append(1 + n_bins * lower // len(mine) if x >= 0.1 else 0)
    found = Bins((np.float32(0.1).item(),), n_bins).assign(matrix_ng)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("binning", "edges", "n_bins", "message"),
    [
        ("equals", (0.1, 1), 3, r"data.binning: unknown binning.*one of fixed, equal, quantile"),
        ("fixed", (0.1, 1), 3, "data.n_bins: is for equal and quantile bins"),
        ("equal", (0.1, 1), None, "data.n_bins: equal bins need a number"),
        ("equal", (0.1,), 3, "need a range"),
        ("equal", (0.1, 1), 1, "at least two bins"),
        ("quantile", (0.1, 1), None, "quantile bins need a number"),
        ("quantile", (0.1, 1), 0, "need a number"),
        ("fixed", (1, 0.5), None, "distinct and increasing"),
    ],
)
def test_nonsense_is_refused(
    binning: str, edges: tuple[float, ...], n_bins: int | None, message: str
) -> None:
    with pytest.raises(TokenError, match=message):
        Bins.of(binning, edges, n_bins)  # type: ignore[arg-type]


def test_fixed_bins_as_configured() -> None:
    assert Bins.of("fixed", [0.1, 1]) == Bins((0.1, 1.0))
    with pytest.raises(TokenError, match="one threshold"):
        Bins((0.1, 1.0), 5)


@pytest.mark.parametrize("edges", [(0.0,), (-1.0, 1.0), (float("nan"),), (0.1, float("inf"))])
def test_chosen_edges_are_positive_and_finite(edges: tuple[float, ...]) -> None:
    """A gene that is not stored has the value 0 and no token."""
    with pytest.raises(TokenError, match=r"must be (positive|finite)"):
        Bins.of("fixed", edges)
