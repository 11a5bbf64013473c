"""Every cell once an epoch over all ranks and workers, in batches that fit, from any batch on."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import ConfigError
from gradgene.lit.stream_plan import batch_sizes, plan_epoch
from gradgene.lit.streaming import SeededTokens, Streaming, TokenStream
from gradgene.tokens import Tokenizer
from gradgene.tokens.masking import MaskedTokens, mask_tokens
from tests.lit.sources import CellsInMemory, padding, same, served
from tests.planted import make_cells, make_tokenizer

SMALL = Streaming(batch_tokens=600, fetch_cells=40, block_cells=4)


@pytest.fixture(scope="module")
def source() -> CellsInMemory:
    """203 cells of 60 genes."""
    return CellsInMemory(make_cells(203, 60))


@pytest.fixture(scope="module")
def tokenizer(source: CellsInMemory) -> Tokenizer:
    return make_tokenizer(source.cells)


def stream(source: CellsInMemory, tokenizer: Tokenizer, **changes: Any) -> TokenStream:
    """All cells, two epochs."""
    given: dict[str, Any] = {"streaming": SMALL, "seed": 3, "epochs": 2, **changes}
    rows_n = given.pop("rows_n", np.arange(len(source)))
    return TokenStream(source, tokenizer, rows_n, **given)


def everyone(source: CellsInMemory, tokenizer: Tokenizer) -> list[int]:
    """What `served` says of each cell."""
    cells = tokenizer.encode(tokenizer.prepare(source.cells))
    return served([SeededTokens(cells, torch.zeros(len(cells), dtype=torch.long))])


@given(
    n=st.integers(1, 150),
    world=st.integers(1, 4),
    fetch_cells=st.integers(1, 40),
    batch_tokens=st.integers(1, 300),
    shuffled=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_plan_shares_out_every_cell_in_equal_steps(
    n: int, world: int, fetch_cells: int, batch_tokens: int, shuffled: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows_n = np.sort(rng.permutation(2 * n)[:n])
    length_n = rng.integers(1, 60, 2 * n)
    streaming = Streaming(batch_tokens, fetch_cells, block_cells=min(4, fetch_cells))
    words = (seed, 0) if shuffled else None
    plans = [plan_epoch(rows_n, length_n, streaming, words, r, world) for r in range(world)]
    assert Counter(np.concatenate([f.rows_n for p in plans for f in p])) == Counter(rows_n)
    for together in zip(*plans, strict=True):
        assert len({fetch.n_batches for fetch in together}) == 1
        for fetch in together:
            lengths = rng.integers(1, length_n[fetch.rows_n] + 1)  # no cell is above its bound
            assert_fits(lengths, batch_tokens, fetch.n_batches)
            assert (np.diff(fetch.rows_n) > 0).all()
        sizes = [len(fetch.rows_n) for fetch in together]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= fetch_cells


def assert_fits(length_n: np.ndarray, batch_tokens: int, n: int) -> None:
    """All cells are in exactly n batches, and these keep to the budget."""
    sizes = batch_sizes(length_n, batch_tokens, n)
    assert len(sizes) == n and sum(sizes) == len(length_n)
    for part in np.split(-np.sort(-length_n), np.cumsum(sizes)[:-1]):
        assert len(part) <= 1 or len(part) * part[0] <= batch_tokens
    assert 0 not in sizes or max(sizes, default=0) <= 1


def test_cells_longer_than_expected_get_the_batches_there_are() -> None:
    length_n = np.full(100, 50)
    sizes = batch_sizes(length_n, 1000, 3)  # five of 20 would fit
    assert len(sizes) == 3 and sum(sizes) == 100
    assert max(sizes) < 1.2 * 100 / 3


def test_ranks_have_batches_of_their_own_in_full_rounds() -> None:
    """Nobody waits with empty batches while there are cells to split."""
    rng = np.random.default_rng(0)
    length_n = rng.integers(100, 2000, 4000)
    streaming = Streaming(batch_tokens=16384, fetch_cells=512, block_cells=16)
    for rank in range(3):
        for fetch in plan_epoch(np.arange(4000), length_n, streaming, (1,), rank, 3):
            lengths = length_n[fetch.rows_n]
            assert min(batch_sizes(lengths, streaming.batch_tokens, fetch.n_batches)) > 0


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_cell_once_an_epoch(source: CellsInMemory, tokenizer: Tokenizer, world: int) -> None:
    ranks = [[*stream(source, tokenizer, rank=r, world=world)] for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert len(ranks[0]) == len(stream(source, tokenizer, world=world))
    everybody = everyone(source, tokenizer)
    assert len(set(everybody)) == len(everybody), "the cells of the test must differ"
    assert Counter(served(b for batches in ranks for b in batches)) == Counter(2 * everybody)
    seeds = torch.cat([b.seeds_n for batches in ranks for b in batches])
    assert len(seeds.unique()) == 2 * len(source), "other tokens are masked in every epoch"


def test_held_out_rows_are_never_read(tokenizer: Tokenizer) -> None:
    source = CellsInMemory(make_cells(203, 60))
    rows_n = np.arange(0, 203, 3)
    batches = [*stream(source, tokenizer, rows_n=rows_n)]
    assert sum(map(len, batches)) == 2 * len(rows_n)
    assert set(np.concatenate(source.reads)) == set(rows_n)


def test_batches_keep_to_the_budget_with_little_padding(
    source: CellsInMemory, tokenizer: Tokenizer
) -> None:
    batches = [*stream(source, tokenizer, epochs=1)]
    assert all(b.tokens.input_ids_nt.numel() <= SMALL.batch_tokens for b in batches)
    assert padding(batches) < 0.1
    assert sum(map(len, batches)) / len(batches) > 8  # of about 16 that fit


def test_epochs_differ_and_batches_are_not_sorted_by_length(
    source: CellsInMemory, tokenizer: Tokenizer
) -> None:
    batches = [*stream(source, tokenizer)]
    order = served(batches)
    assert order[: len(source)] != order[len(source) :]
    lengths = [b.tokens.input_ids_nt.shape[1] for b in batches[: len(batches) // 2]]
    assert lengths != sorted(lengths, reverse=True)


def test_the_same_parameters_give_the_same_batches(
    source: CellsInMemory, tokenizer: Tokenizer
) -> None:
    first, again = (stream(source, tokenizer, max_genes=10) for _ in range(2))
    other = stream(source, tokenizer, max_genes=10, seed=4)
    assert all(map(same, first, again))
    assert served(first) != served(other)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(source: CellsInMemory, tokenizer: Tokenizer, workers: int) -> None:
    alone = stream(source, tokenizer, epochs=1, max_genes=10)
    settings = Streaming(SMALL.batch_tokens, SMALL.fetch_cells, SMALL.block_cells, workers)
    helped = stream(source, tokenizer, epochs=1, max_genes=10, streaming=settings)
    batches = [*helped]
    assert len(batches) == len(alone)
    assert all(map(same, alone, batches))


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_at_any_batch(tokenizer: Tokenizer, workers: int) -> None:
    source = CellsInMemory(make_cells(203, 60))
    settings = Streaming(SMALL.batch_tokens, SMALL.fetch_cells, SMALL.block_cells, workers)
    whole = stream(source, tokenizer, max_genes=10, streaming=settings)
    batches = [*whole]
    for taken in (0, 1, len(batches) // 2 - 1, len(batches) // 2, len(batches) - 1, len(batches)):
        begun = stream(source, tokenizer, max_genes=10)
        assert len([*islice(begun, taken)]) == taken
        resumed = stream(source, tokenizer, max_genes=10, streaming=settings)
        resumed.load_state_dict(begun.state_dict())
        assert len(resumed) == len(batches)
        rest = [*resumed]
        assert len(rest) == len(batches) - taken
        assert all(map(same, rest, batches[taken:]))
        assert resumed.state_dict() == {"position": len(batches)}


def test_what_was_taken_is_not_read_again(tokenizer: Tokenizer) -> None:
    source = CellsInMemory(make_cells(203, 60))
    begun = stream(source, tokenizer, epochs=1)
    first = begun.plan(0)[0]
    n_taken = sum(map(len, islice(begun, first.n_batches + 1)))
    source.reads.clear()
    resumed = stream(source, tokenizer, epochs=1)
    resumed.load_state_dict(begun.state_dict())
    assert sum(map(len, resumed)) == len(source) - n_taken
    assert not set(first.rows_n) & set(np.concatenate(source.reads))


def test_without_shuffling_every_pass_and_every_world_masks_alike(
    source: CellsInMemory, tokenizer: Tokenizer
) -> None:
    def seeds(world: int) -> dict[int, int]:
        """What `served` says of a cell -> its seed."""
        ranks = [
            stream(source, tokenizer, epochs=1, shuffle=False, rank=r, world=world)
            for r in range(world)
        ]
        batches = [b for rank in ranks for b in rank]
        found = dict(
            zip(served(batches), torch.cat([b.seeds_n for b in batches]).tolist(), strict=True)
        )
        assert len(found) == len(source)
        return found

    assert seeds(1) == seeds(2) == seeds(3)
    passes = stream(source, tokenizer, epochs=1, shuffle=False)
    assert all(map(same, [*passes], [*passes]))


def test_more_ranks_than_cells(tokenizer: Tokenizer) -> None:
    source = CellsInMemory(make_cells(3, 60))
    ranks = [[*stream(source, tokenizer, epochs=1, rank=r, world=5)] for r in range(5)]
    assert [len(batches) for batches in ranks] == [1] * 5
    assert sorted(sum(map(len, batches)) for batches in ranks) == [0, 0, 1, 1, 1]
    vocabulary = tokenizer.vocabulary
    for batch in (b for batches in ranks for b in batches):  # also those without cells
        masked, _ = mask_tokens(batch.tokens, vocabulary, MaskedTokens(), batch.seeds_n)
        assert len(masked) == len(batch)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"batch_tokens": 0}, "data"),
        ({"workers": -1}, "data"),
        ({"fetch_cells": 8, "block_cells": 16}, "data.block_cells"),
    ],
)
def test_settings_that_make_no_batches(wrong: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Streaming(**wrong)
