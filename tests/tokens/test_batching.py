"""Batches by a budget of tokens: every cell once, little padding, shuffled by seed."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.tokens import length_batches

lengths_strategy = st.lists(st.integers(0, 60), max_size=50)


@given(lengths=lengths_strategy, budget=st.integers(1, 400))
def test_every_row_once_longest_first(lengths: list[int], budget: int) -> None:
    length_n = torch.tensor(lengths, dtype=torch.int64)
    batches = list(length_batches(length_n, budget))
    rows = [int(r) for batch in batches for r in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[r] for r in rows] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * int(length_n[batch].max()) <= budget


def test_batches_are_full() -> None:
    batches = [b.tolist() for b in length_batches(torch.tensor([10, 30, 20, 10]), 40)]
    assert [len(b) for b in batches] == [1, 2, 1]
    assert batches[0] == [1] and batches[1][0] == 2


@given(lengths=lengths_strategy, budget=st.integers(1, 400), seed=st.integers(0, 99))
def test_shuffled_batches_hold_every_row_once(lengths: list[int], budget: int, seed: int) -> None:
    length_n = torch.tensor(lengths, dtype=torch.int64)
    batches = [
        list(length_batches(length_n, budget, np.random.default_rng(seed))) for _ in range(2)
    ]
    assert sorted(int(r) for batch in batches[0] for r in batch) == list(range(len(lengths)))
    for batch, again in zip(*batches, strict=True):
        assert torch.equal(batch, again)
        assert len(batch) == 1 or len(batch) * int(length_n[batch].max()) <= budget


def padding(length_n: torch.Tensor, batches: list[torch.Tensor]) -> float:
    """Share of the positions of all batches that are padding."""
    used = sum(int(length_n[b].sum()) for b in batches)
    return 1 - used / sum(len(b) * int(length_n[b].max()) for b in batches)


def test_little_of_a_batch_is_padding() -> None:
    """Genes of a cell as in droplet data: log-normal about 1,500, from 200 to 8,000."""
    rng = np.random.default_rng(0)
    length_n = torch.from_numpy(rng.lognormal(np.log(1500), 0.6, 20_000).clip(200, 8000)).long()
    in_order = list(length_batches(length_n, 64_000))
    shuffled = list(length_batches(length_n, 64_000, rng))
    assert padding(length_n, in_order) < 0.02
    assert padding(length_n, shuffled) < 0.10
    # Without regard to length it would be more than half.
    at_random = [torch.from_numpy(rows) for rows in np.split(rng.permutation(20_000), 500)]
    assert padding(length_n, at_random) > 0.5


def test_shuffling_gives_cells_other_company() -> None:
    rng = np.random.default_rng(0)
    length_n = torch.from_numpy(rng.integers(200, 4000, 5000))
    first, second = (list(length_batches(length_n, 32_000, rng)) for _ in range(2))
    of_row = {int(r): set(batch.tolist()) for batch in first for r in batch}
    kept = [
        len(of_row[int(r)] & set(batch.tolist())) / len(batch)
        for batch in second
        if len(batch) > 5
        for r in batch
    ]
    assert np.mean(kept) < 0.5
    longest = [int(length_n[batch].max()) for batch in first]
    assert longest != sorted(longest, reverse=True)
