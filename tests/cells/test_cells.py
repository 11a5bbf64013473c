"""The noun itself: sizes, subsets and the field's normalisation."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from gradgene.cells import Cells, log_normalise
from gradgene.errors import CellsError
from tests.planted import make_adata, make_cells


def test_counts_become_what_scanpy_makes_of_them() -> None:
    adata = make_adata(n=80)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    cells = log_normalise(make_cells(n=80))
    np.testing.assert_allclose(cells.matrix_ng.toarray(), adata.X.toarray(), atol=1e-5, rtol=0)
    assert cells.matrix_ng.dtype == np.float32


def test_depth_is_taken_over_all_genes_before_the_panel() -> None:
    cells = make_cells()
    panel = ("g3", "g7", "g20")
    depth_n = cells.matrix_ng.toarray().sum(axis=1, keepdims=True)
    by_hand = np.log1p(cells.matrix_ng.toarray() / depth_n * 10_000)[:, [3, 7, 20]]
    first = log_normalise(cells).with_genes(panel)
    np.testing.assert_allclose(first.matrix_ng.toarray(), by_hand, rtol=1e-6)
    late = log_normalise(cells.with_genes(panel))
    assert np.abs(late.matrix_ng.toarray() - by_hand).max() > 0.1  # the order matters


def test_lognormalised_cells_come_back_unchanged() -> None:
    once = log_normalise(make_cells())
    assert once.schema.values == "lognorm"
    assert log_normalise(once) is once


def test_normalising_does_not_change_its_input() -> None:
    cells = make_cells()
    before = cells.matrix_ng.copy()
    log_normalise(cells)
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), before.toarray())
    assert cells.schema.values == "counts"


def test_take_keeps_the_order_asked_for() -> None:
    cells = make_cells()
    rows = np.array([5, 2, 41])
    taken = cells.take(rows)
    np.testing.assert_array_equal(taken.matrix_ng.toarray(), cells.matrix_ng.toarray()[rows])
    assert list(taken.obs.index) == ["cell5", "cell2", "cell41"]
    assert taken.genes == cells.genes


def test_with_genes_reorders_and_names_the_unknown() -> None:
    cells = make_cells()
    chosen = cells.with_genes(["g9", "g0"])
    np.testing.assert_array_equal(chosen.matrix_ng.toarray(), cells.matrix_ng.toarray()[:, [9, 0]])
    assert chosen.ensembl_ids == (cells.ensembl_ids[9], cells.ensembl_ids[0])
    with pytest.raises(CellsError, match="2 genes are not in the cells: GAPDH, ACTB"):
        cells.with_genes(["g0", "GAPDH", "ACTB"])


def test_counts_of_is_most_frequent_first() -> None:
    cells = make_cells()
    obs = cells.obs.assign(label=["a"] * 10 + ["b"] * 30 + [np.nan] * 20)
    assert list(replace(cells, obs=obs).counts_of("label").items()) == [("b", 30), ("a", 10)]


def test_sizes_must_agree() -> None:
    cells = make_cells()
    for change in (
        {"obs": cells.obs.iloc[:5]},
        {"genes": cells.genes[:5]},
        {"ensembl_ids": cells.ensembl_ids[:5]},
        {"matrix_ng": sparse.csr_matrix(cells.matrix_ng[:, :5])},
    ):
        with pytest.raises(CellsError, match="differ in size"):
            replace(cells, **change)  # type: ignore[arg-type]
    with pytest.raises(CellsError, match="occur more than once: g1"):
        replace(cells, genes=("g1", *cells.genes[1:]))


def test_cells_are_frozen() -> None:
    cells: Cells = make_cells()
    assert len(cells) == 60
    with pytest.raises(FrozenInstanceError):
        cells.genes = ()  # type: ignore[misc]


def test_expressed_is_what_the_bins_say() -> None:
    """In float32 0.7 is a little less than the edge 0.7, and 0.1 a little more than 0.1."""
    one = make_cells().take(np.array([0]))
    values = sparse.csr_matrix(np.array([[0.1, 0.7, 0.0]], dtype=np.float32))
    cells = replace(one.with_genes(one.genes[:3]), matrix_ng=values)
    for edge in (0.1, 0.7):
        bins = np.digitize(cells.matrix_ng.toarray(), [edge])
        np.testing.assert_array_equal(cells.expressed(edge).toarray(), bins > 0)
    assert not cells.expressed(0.7).toarray().any()
