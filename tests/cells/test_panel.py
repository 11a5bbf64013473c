"""The panel: scanpy's highly variable genes, a list, or every gene seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scanpy as sc
import torch
from scipy import sparse

from gradgene.cells import Cells, choose_genes, log_normalise, panel_notes
from gradgene.errors import CellsError
from tests.planted import make_adata, make_cells


def with_matrix(matrix_ng: np.ndarray) -> Cells:
    cells = make_cells(n=len(matrix_ng), n_genes=matrix_ng.shape[1])
    return replace(cells, matrix_ng=sparse.csr_matrix(matrix_ng.astype(np.float32)))


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize(("n", "seed"), [(1, 0), (10, 1), (150, 2), (399, 3)])
def test_the_same_genes_as_scanpy(seed: int, n: int, logged: bool) -> None:
    """`n_top_genes` of scanpy, called by hand on what scanpy itself normalised.

    scanpy takes every gene that ties with the last one, we take the first of them.
    """
    cells = make_cells(n=40, n_genes=400, seed=seed)
    adata = make_adata(n=40, n_genes=400, seed=seed)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, flavor="seurat", n_top_genes=n)
    best = adata.var.sort_values("dispersions_norm", ascending=False, kind="stable")[:n]
    chosen = choose_genes(log_normalise(cells) if logged else cells, n)
    assert set(chosen) <= set(adata.var_names[adata.var["highly_variable"]])
    assert set(chosen) == set(best.index)
    assert list(chosen) == [g for g in cells.genes if g in set(chosen)]


def test_variance_is_that_of_log1p_values() -> None:
    """An abundant gene of much variance is kept, a rare one of high dispersion is not."""
    matrix = np.zeros((40, 50))
    matrix[:, 0] = 50  # abundant, the same everywhere
    matrix[::2, 1] = 90  # abundant, and in every other cell only
    matrix[0, 2] = 6  # in one cell
    cells = with_matrix(matrix)
    assert choose_genes(cells, 1, "variance") == cells.genes[1:2]
    assert choose_genes(cells, 2, "variance") == cells.genes[1:3]
    with pytest.raises(CellsError, match=r"data\.gene_rule: unknown rule 'sd'"):
        choose_genes(cells, 2, "sd")  # type: ignore[arg-type]


def test_more_than_there_are_is_every_gene_seen() -> None:
    cells = make_cells(n=20)
    assert choose_genes(cells, 50) == choose_genes(cells, 5000) == cells.genes


def test_genes_of_equal_dispersion_in_column_order() -> None:
    """Copies of a column tie; the first of them are taken, whatever else is."""
    cells = log_normalise(make_cells(n=40))
    values_ng = cells.matrix_ng.toarray()
    values_ng[:, [45, 30, 20]] = values_ng[:, [10]]
    tied = replace(cells, matrix_ng=sparse.csr_matrix(values_ng))
    copies = ["g10", "g20", "g30", "g45"]
    seen = set()
    for n in range(1, 50):
        chosen = choose_genes(tied, n)
        mine = [g for g in copies if g in chosen]
        assert mine == copies[: len(mine)]
        seen.add(len(mine))
    assert seen == {0, 1, 2, 3, 4}


def test_genes_of_no_cell_are_never_chosen() -> None:
    cells = make_cells(n=40)
    counts_ng = cells.matrix_ng.toarray()
    counts_ng[:, [7, 9]] = 0
    cells = replace(cells, matrix_ng=sparse.csr_matrix(counts_ng))
    assert set(cells.genes) - set(choose_genes(cells, 48)) == {"g7", "g9"}
    assert len(choose_genes(cells, 47)) == 47


def test_torch_keeps_its_threads() -> None:
    """scanpy starts numba's threads, which lowers torch's number of them."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        choose_genes(make_cells(n=20), 5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_none_takes_every_gene_seen() -> None:
    matrix_ng = np.zeros((4, 12))
    matrix_ng[1, [3, 8]] = 1
    assert choose_genes(with_matrix(matrix_ng), None) == ("g3", "g8")


def test_held_out_cells_have_no_say() -> None:
    """The choice is a function of the cells given: others may hold anything."""
    cells = make_cells(n=60)
    counts_ng = cells.matrix_ng.toarray()
    counts_ng[30:, 40:] = np.random.default_rng(0).integers(0, 500, (30, 10))
    other = replace(cells, matrix_ng=sparse.csr_matrix(counts_ng))
    training = np.arange(30)
    for n in (None, 2, 10):
        assert choose_genes(other.take(training), n) == choose_genes(cells.take(training), n)
    assert choose_genes(other, 10) != choose_genes(cells, 10)


def test_list_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_text("g9\n g2 \n\nGAPDH\n")
    assert choose_genes(make_cells(), str(file)) == ("g2", "g9")
    file.write_text("GAPDH\n")
    with pytest.raises(
        CellsError, match=r"data\.genes: no gene of .*genes\.txt .*g0, g1, g2; found GAPDH"
    ):
        choose_genes(make_cells(), str(file))
    with pytest.raises(CellsError, match="no such gene list"):
        choose_genes(make_cells(), str(tmp_path / "gone.txt"))


def test_a_line_on_the_genes_of_a_list_that_are_not_found(tmp_path: Path) -> None:
    file = tmp_path / "genes.txt"
    file.write_text("g9\nGAPDH\nENSG00000000009.3\nGAPDH\ng2\n")
    genes = make_cells().genes
    lost = f"data.genes: 2 of the 4 genes of {file} are not in the cells: GAPDH, ENSG00000000009"
    assert panel_notes(genes, str(file)) == (lost,)
    file.write_text("\n".join(["g1", *(f"x{i}" for i in range(10))]))
    (many,) = panel_notes(genes, str(file))
    assert many.endswith(": x0, x1, x2, x3, x4, …")
    file.write_text("g9\ng2\n")
    for asked in (str(file), 10, None):
        assert panel_notes(genes, asked) == ()


@pytest.mark.parametrize("n", [0, -1])
def test_fewer_than_one_gene(n: int) -> None:
    with pytest.raises(CellsError, match=f"asks for {n} genes"):
        choose_genes(make_cells(), n)


def test_a_list_may_hold_versions(tmp_path: Path) -> None:
    cells = make_cells(n_genes=20)
    cells = replace(cells, genes=tuple(f"ENSG{i:011d}" for i in range(20)))
    (tmp_path / "genes.txt").write_text("ENSG00000000002.7\n")
    assert choose_genes(cells, str(tmp_path / "genes.txt")) == ("ENSG00000000002",)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CellsError, match=r"cannot read .*text file"):
        choose_genes(make_cells(), str(tmp_path / "genes.txt"))
