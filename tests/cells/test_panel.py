"""The panel: highest variance, a list, or every gene seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, choose_genes, log_normalise
from gradgene.errors import CellsError
from tests.planted import make_cells


def with_matrix(matrix_ng: np.ndarray) -> Cells:
    cells = make_cells(n=len(matrix_ng), n_genes=matrix_ng.shape[1])
    return replace(cells, matrix_ng=sparse.csr_matrix(matrix_ng.astype(np.float32)))


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), logged=st.booleans())
def test_highest_variance_against_numpy(seed: int, n: int, logged: bool) -> None:
    cells = make_cells(n=20, seed=seed)
    cells = log_normalise(cells) if logged else cells
    values_ng = cells.matrix_ng.toarray().astype(np.float64)
    variance_g = np.var(values_ng if logged else np.log1p(values_ng), axis=0)
    chosen = choose_genes(cells, n)
    columns = [cells.genes.index(name) for name in chosen]
    assert columns == sorted(columns)
    left_out = np.setdiff1d(np.arange(50), columns)
    seen = np.flatnonzero(values_ng.sum(axis=0))
    assert len(chosen) == min(n, len(seen))
    if np.isin(left_out, seen).any():
        assert variance_g[columns].min() >= variance_g[left_out].max() - 1e-12


def test_ties_go_to_the_first_columns() -> None:
    matrix_ng = np.zeros((4, 12))
    matrix_ng[0, [9, 2, 5, 11]] = 3  # four equal columns
    matrix_ng[:, 7] = 1  # seen everywhere, no variance
    assert choose_genes(with_matrix(matrix_ng), 2) == ("g2", "g5")
    assert choose_genes(with_matrix(matrix_ng), 3) == ("g2", "g5", "g9")
    assert choose_genes(with_matrix(matrix_ng), 5) == ("g2", "g5", "g7", "g9", "g11")


def test_many_ties_go_to_the_first_columns() -> None:
    """More than the 16 up to which any sort of NumPy is stable."""
    matrix_ng = np.zeros((2, 200))
    matrix_ng[0, ::2] = 3
    matrix_ng[0, 1::2] = 1
    assert choose_genes(with_matrix(matrix_ng), 30) == tuple(f"g{i}" for i in range(0, 60, 2))


def test_none_takes_every_gene_seen() -> None:
    matrix_ng = np.zeros((4, 12))
    matrix_ng[1, [3, 8]] = 1
    assert choose_genes(with_matrix(matrix_ng), None) == ("g3", "g8")


def test_held_out_cells_have_no_say() -> None:
    """The choice is a function of the cells given: others may hold anything."""
    matrix_ng = np.zeros((6, 12))
    matrix_ng[0, :3] = 5
    held_out = matrix_ng.copy()
    held_out[3:, 6:] = np.arange(18).reshape(3, 6) * 50
    training = np.arange(3)
    for n in (None, 2, 10):
        chosen = choose_genes(with_matrix(held_out).take(training), n)
        assert chosen == choose_genes(with_matrix(matrix_ng).take(training), n)
        assert set(chosen) <= {"g0", "g1", "g2"}
    assert choose_genes(with_matrix(held_out), 2) != choose_genes(with_matrix(matrix_ng), 2)


def test_list_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_text("g9\n g2 \n\nGAPDH\n")
    assert choose_genes(make_cells(), str(file)) == ("g2", "g9")
    file.write_text("GAPDH\n")
    with pytest.raises(CellsError, match=r"data\.genes: no gene of .*genes\.txt"):
        choose_genes(make_cells(), str(file))
    with pytest.raises(CellsError, match="no such gene list"):
        choose_genes(make_cells(), str(tmp_path / "gone.txt"))


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_gene(n: int) -> None:
    with pytest.raises(CellsError, match=f"asks for {n} genes"):
        choose_genes(make_cells(), n)
