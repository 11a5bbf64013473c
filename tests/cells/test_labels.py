"""Labels are text or missing, however a file writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import MISSING_LABELS, CellSchema, cells_from_anndata
from gradgene.cells.labels import as_labels, join_labels
from tests.planted import make_adata

MISSING = [
    None,
    np.nan,
    "",
    " ",
    "unknown",
    "Unknown",
    "UNKNOWN",
    "nan",
    "NaN",
    "NA",
    "N/A",
    "<NA>",
]
KNOWN = ["none", "B cell", "unknown lineage", "Na+ channel high", "0", " B cell", "annotated"]


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("as_category", [False, True])
def test_missing_labels(missing: Any, as_category: bool) -> None:
    column = pd.Series(["a", missing, "b", missing], dtype=object)
    labels = as_labels(column.astype("category") if as_category else column)
    assert labels.isna().tolist() == [False, True, False, True]
    assert list(labels.categories) == ["a", "b"]


@pytest.mark.parametrize("known", KNOWN)
def test_other_labels_stay_as_they_are(known: str) -> None:
    assert list(as_labels(["x", known])) == ["x", known]


def test_the_list_is_lower_case() -> None:
    """Labels are compared in lower case, so an entry in upper case would never match."""
    assert [m.lower() for m in MISSING_LABELS] == list(MISSING_LABELS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1015.0, np.nan, 2.0], ["1015", None, "2"]),
        (np.array([3, 1], dtype=np.int8), ["3", "1"]),
        ([0.5, 2.0], ["0.5", "2"]),
        ([True, False], ["True", "False"]),
        (pd.array([7, None], dtype="Int64"), ["7", None]),
        (pd.Categorical([1.0, None, 10.0]), ["1", None, "10"]),
        (pd.Categorical(["x", "unknown"], categories=["unknown", "never", "x"]), ["x", None]),
        ([np.nan, np.nan], [None, None]),
    ],
)
def test_numbers_become_text(values: Any, expected: list[str | None]) -> None:
    labels = as_labels(values)
    assert [None if pd.isna(v) else v for v in labels] == expected


def test_values_that_are_one_text_are_one_label() -> None:
    labels = as_labels(pd.Series([1, 1.0, "1", 2], dtype=object))
    assert list(labels.categories) == ["1", "2"] and list(labels) == ["1", "1", "1", "2"]


label = st.sampled_from(["a", "b", "c", "d", None])


@given(st.lists(st.lists(label, min_size=1), min_size=1, max_size=4))
def test_joining_is_as_if_it_were_one_column(columns: list[list[str | None]]) -> None:
    joined = join_labels([as_labels(column) for column in columns])
    whole = as_labels([value for column in columns for value in column])
    assert list(joined.categories) == list(whole.categories)
    assert joined.codes.tolist() == whole.codes.tolist()


def test_cells_say_how_many_labels_are_missing() -> None:
    adata = make_adata()
    sex = adata.obs["sex"].astype(object)
    sex.iloc[:7] = "unknown"
    cells = cells_from_anndata(adata[:], CellSchema(("disease", "sex")))
    assert cells.notes == ()
    adata.obs["sex"] = sex
    cells = cells_from_anndata(adata, CellSchema(("disease", "sex")))
    assert cells.notes == ("7 of 60 cells have no label in 'sex' (unknown, empty or NaN)",)
    assert set(cells.counts_of("sex")) == {"female", "male"}
    assert cells.obs["sex"].isna().sum() == 7


def test_categories_that_no_cell_has_are_no_labels() -> None:
    column = pd.Categorical(["b", "b"], categories=["a", "b", "c"])
    assert list(as_labels(column).categories) == ["b"]
