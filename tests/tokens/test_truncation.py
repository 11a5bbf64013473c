"""Cutting long cells: uniform, seeded by cell, and counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema
from gradgene.tokens import Tokenizer, TruncationReport, Vocabulary
from tests.planted import make_cells, make_tokenizer


def expressed_genes(tokenizer: Tokenizer, cells: Cells) -> list[set[int]]:
    tokens = tokenizer.encode(cells)
    return [set(row[row >= 0].tolist()) for row in tokens.gene_ids_nt]


@pytest.fixture(scope="module")
def twelve() -> tuple[Tokenizer, Cells]:
    """Twelve prepared cells and their tokenizer."""
    cells = make_cells(n=12)
    tokenizer = make_tokenizer(cells)
    return tokenizer, tokenizer.prepare(cells)


@given(max_genes=st.integers(1, 50), seed=st.integers(0, 50))
def test_long_cells_lose_genes_and_short_ones_none(
    twelve: tuple[Tokenizer, Cells], max_genes: int, seed: int
) -> None:
    tokenizer, cells = twelve
    cut, report = tokenizer.truncate(cells, max_genes, seed)
    before, after = expressed_genes(tokenizer, cells), expressed_genes(tokenizer, cut)
    for whole, part in zip(before, after, strict=True):
        assert part <= whole
        assert len(part) == min(len(whole), max_genes)
    assert report == TruncationReport(
        n_cells=12,
        n_cut=sum(len(whole) > max_genes for whole in before),
        n_genes=sum(map(len, before)),
        n_dropped=sum(len(whole) - len(part) for whole, part in zip(before, after, strict=True)),
    )
    assert tokenizer.truncation(cells, max_genes) == report


def test_the_cut_depends_on_the_cell_and_the_seed_alone() -> None:
    cells = make_cells(n=40)
    tokenizer = make_tokenizer(cells)
    cells = tokenizer.prepare(cells)
    cut, _ = tokenizer.truncate(cells, 8, seed=3)
    rows = np.array([17, 2, 30])
    alone, _ = tokenizer.truncate(cells.take(rows), 8, seed=3)
    assert (alone.matrix_ng != cut.take(rows).matrix_ng).nnz == 0
    other, _ = tokenizer.truncate(cells, 8, seed=4)
    assert (other.matrix_ng != cut.matrix_ng).nnz > 0
    renamed = replace(cells, obs=cells.obs.set_axis([f"x{i}" for i in range(40)]))
    again, _ = tokenizer.truncate(renamed, 8, seed=3)
    assert (again.matrix_ng != cut.matrix_ng).nnz > 0


def test_the_cut_is_uniform_and_spares_what_is_not_expressed() -> None:
    """3 of 10 genes, 3,000 times: each gene about 900 times (standard deviation 25)."""
    values_ng = np.ones((3000, 11), dtype=np.float32)
    values_ng[:, 10] = 0.2
    genes = tuple(f"g{i}" for i in range(11))
    schema = CellSchema(("sex",), values="lognorm")
    obs = pd.DataFrame({"sex": ["f"] * 3000}, index=[f"c{i}" for i in range(3000)], dtype=object)
    cells = Cells(sparse.csr_matrix(values_ng), obs, genes, genes, schema)
    tokenizer = Tokenizer(Vocabulary({"sex": ("f",)}, ("sex",), genes, (0.5,)), schema)
    cut, report = tokenizer.truncate(cells, 3, seed=0)
    counts = cut.matrix_ng.getnnz(axis=0)
    assert counts[10] == 3000
    assert np.abs(counts[:10] - 900).max() < 150
    assert counts[:10].sum() == 9000
    first = cut.matrix_ng[:, :10].toarray() > 0
    assert len({tuple(row) for row in first}) == 120  # all 10 over 3
    assert str(report) == (
        "3000 of 3000 cells are cut: 21000 of 30000 gene tokens (70.0%) are left out"
    )


def test_nothing_is_cut_without_a_limit() -> None:
    cells = make_cells(n=5)
    tokenizer = make_tokenizer(cells)
    report = tokenizer.truncation(tokenizer.prepare(cells))
    assert (report.n_cut, report.n_dropped) == (0, 0)
    assert "0 of 5 cells are cut" in str(report)
