"""Wrong declarations are caught, right ones pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells.values import check_values
from gradgene.errors import CellsError

counts = st.lists(st.integers(1, 50_000), min_size=1)


@given(counts)
def test_counts_pass(data: list[int]) -> None:
    check_values(np.array(data, dtype=np.float32), "counts", where="file")


@given(counts.filter(lambda data: max(data) > 1))
def test_counts_declared_as_lognormalised(data: list[int]) -> None:
    with pytest.raises(CellsError, match="look like counts") as error:
        check_values(np.array(data, dtype=np.float32), "lognorm", where="file")
    assert str(error.value).startswith("file: ")
    assert "data.values=counts" in str(error.value)


@pytest.mark.parametrize("highest", [2, 9, 30, 31])
def test_shallow_counts_declared_as_lognormalised(highest: int) -> None:
    with pytest.raises(CellsError, match=f"only whole numbers, highest {highest}"):
        check_values(np.array([1, 1, highest], dtype=np.float32), "lognorm", where="file")


@given(counts, st.integers(1, 50_000))
def test_lognormalised_passes_and_is_no_count(data: list[int], more: int) -> None:
    depth = sum(data) + more
    logs = np.log1p(np.array(data) / depth * 1e4).astype(np.float32)
    logs[0] = 0.25  # at least one value that cannot be a count
    check_values(logs, "lognorm", where="file")
    with pytest.raises(CellsError, match="not whole numbers") as error:
        check_values(logs, "counts", where="file")
    assert "data.values=lognorm" in str(error.value)


@pytest.mark.parametrize("kind", ["counts", "lognorm"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1.0, np.nan, np.nan], "2 expression values are NaN"),
        ([1.0, -np.inf], "1 expression values are NaN or infinite"),
        ([1.0, -0.5, -2.0], r"2 expression values are negative \(lowest -2\)"),
    ],
)
def test_impossible_values(data: list[float], message: str, kind: str) -> None:
    with pytest.raises(CellsError, match=message):
        check_values(np.array(data, dtype=np.float32), kind, where="file")  # type: ignore[arg-type]


def test_large_fractions_are_no_logarithms() -> None:
    with pytest.raises(CellsError, match=r"highest 30\.5"):
        check_values(np.array([0.5, 30.5], dtype=np.float32), "lognorm", where="file")
    check_values(np.array([0.5, 29.5], dtype=np.float32), "lognorm", where="file")


def test_binary_and_empty_matrices_pass() -> None:
    check_values(np.ones(5, dtype=np.float32), "lognorm", where="file")
    check_values(np.zeros(0, dtype=np.float32), "counts", where="file")
