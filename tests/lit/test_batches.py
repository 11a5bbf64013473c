"""Which cells share a batch: every cell once, on one rank, among cells of its length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import Cells, cells_from_anndata, log_normalise
from gradgene.errors import ConfigError
from gradgene.lit import batches
from gradgene.lit.batches import LengthBatches, SeededBatches, TokenisedCells, token_lengths
from gradgene.tokens import Layout, Tokenizer
from tests.planted import PHENOTYPES, make_adata, make_cells, make_tokenizer


def uneven_cells(n: int = 900, n_genes: int = 400) -> Cells:
    """Log-normalised cells of which the longest expresses forty times what the shortest does."""
    adata = make_adata(n=n, n_genes=n_genes)
    rng = np.random.default_rng(0)
    share_n = np.exp(rng.uniform(np.log(0.02), 0, n))
    counts_ng = adata.X.toarray() * (rng.random((n, n_genes)) < share_n[:, None])
    counts_ng[:, -1] += 1
    adata.X = type(adata.X)(counts_ng)
    return log_normalise(cells_from_anndata(adata, make_cells().schema))


@pytest.fixture(scope="module")
def tokenised() -> tuple[Cells, Tokenizer]:
    """Cells of very different length, and their tokenizer."""
    cells = uneven_cells()
    return cells, make_tokenizer(cells)


@pytest.mark.parametrize("max_genes", [None, 50])
@pytest.mark.parametrize("shuffle", [True, False])
def test_padding_is_below_a_tenth(
    tokenised: tuple[Cells, Tokenizer], shuffle: bool, max_genes: int | None
) -> None:
    cells, tokenizer = tokenised
    lengths_n = token_lengths(cells, tokenizer, max_genes)
    data = TokenisedCells(cells, tokenizer, max_genes)
    assert max_genes or lengths_n.max() > 20 * lengths_n.min()
    in_order = [data[b] for b in SeededBatches(len(data), 16, shuffle, 0)]
    by_length = [data[b] for b in LengthBatches(lengths_n, 1000, shuffle, 0)]

    def padding(served: list[Any]) -> float:
        tokens = sum(int(b.n_tokens_n.sum()) for b in served)
        return 1 - tokens / sum(b.input_ids_nt.numel() for b in served)

    assert padding(by_length) <= 0.10
    assert padding(in_order) > 0.10
    assert max(b.input_ids_nt.numel() for b in by_length) <= 1000


@pytest.mark.parametrize("max_genes", [None, 9])
@pytest.mark.parametrize(
    "layout", [Layout(), Layout(end=None), Layout(genes="all"), Layout(max_length=20)]
)
def test_lengths_are_those_of_the_tokens(
    tokenised: tuple[Cells, Tokenizer], layout: Layout, max_genes: int | None
) -> None:
    """Exact for our own layout, never too short for the others."""
    cells, tokenizer = tokenised
    tokenizer = Tokenizer(replace(tokenizer.vocabulary, layout=layout), tokenizer.schema)
    cells = cells.take(np.arange(50))
    row_n = tokenizer.encode(cells, max_genes).input_ids_nt
    served_n = (row_n != layout.pad).sum(dim=1).numpy()
    lengths_n = token_lengths(cells, tokenizer, max_genes)
    assert (lengths_n >= served_n).all() and (lengths_n <= served_n + 1).all()
    assert layout != Layout() or np.array_equal(lengths_n, served_n)


lengths = st.lists(st.integers(1, 300), min_size=1, max_size=80).map(np.array)


@given(lengths, st.integers(1, 500), st.integers(0, 3), st.booleans())
def test_every_cell_once_within_the_budget(
    lengths_n: np.ndarray, budget: int, epoch: int, shuffle: bool
) -> None:
    sampler = LengthBatches(lengths_n, budget, shuffle, seed=1)
    sampler.set_epoch(epoch)
    served = [rows for _, rows in sampler]
    assert len(served) == len(sampler)  # the same in every epoch
    assert sorted(np.concatenate(served).tolist()) == list(range(len(lengths_n)))
    for rows in served:
        assert len(rows) == 1 or len(rows) * lengths_n[rows].max() <= budget
    if not shuffle:
        longest = [lengths_n[rows].max() for rows in served]
        assert longest[0] >= 0.95 * lengths_n.max()


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_is_a_function_of_seed_and_number(by_length: bool) -> None:
    lengths_n = np.random.default_rng(0).integers(5, 50, 200)

    def served(seed: int, epoch: int) -> list[tuple[int, list[int]]]:
        sampler: SeededBatches = SeededBatches(200, 16, True, seed)
        if by_length:
            sampler = LengthBatches(lengths_n, 320, True, seed)
        sampler.set_epoch(5)
        list(sampler)  # what was asked for before does not matter
        sampler.set_epoch(epoch)
        return [(s, rows.tolist()) for s, rows in sampler]

    assert served(0, 1) == served(0, 1)
    assert served(0, 1) != served(0, 2)
    assert served(0, 1) != served(1, 1)
    companies = [{frozenset(rows) for _, rows in served(0, e)} for e in (1, 2)]
    assert len(companies[0] & companies[1]) < 0.2 * len(companies[0])


@given(st.integers(6, 60), st.integers(1, 9), st.integers(1, 3), st.booleans(), st.booleans())
def test_ranks_share_the_cells_and_have_equal_numbers_of_batches(
    n: int, size: int, world: int, shuffle: bool, by_length: bool
) -> None:
    lengths_n = np.random.default_rng(n).integers(1, 40, n)
    seen, seeds, counts = [], [], set()
    before = batches.rank_and_world
    try:
        for rank in range(world):
            batches.rank_and_world = lambda rank=rank: (rank, world)  # type: ignore[misc]
            sampler: SeededBatches = SeededBatches(n, size, shuffle, 3)
            if by_length:
                sampler = LengthBatches(lengths_n, 10 * size, shuffle, 3)
            mine = list(sampler)
            counts.add((len(sampler), len(mine)))
            seen += [row for _, rows in mine for row in rows.tolist()]
            seeds += [seed for seed, _ in mine]
    finally:
        batches.rank_and_world = before
    assert sorted(seen) == list(range(n))
    assert len(counts) == 1 and len({*counts.pop()}) == 1
    assert len(set(seeds)) == len(seeds)


def test_more_ranks_than_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "rank_and_world", lambda: (0, 4))
    with pytest.raises(ConfigError, match=r"trainer\.devices"):
        list(SeededBatches(3, 1, True, 0))


def test_phenotypes_are_in_every_length() -> None:
    cells = log_normalise(make_cells())
    lengths_n = token_lengths(cells, make_tokenizer(cells), 1)
    assert (lengths_n == 1 + len(PHENOTYPES) + 1 + 1).all()
