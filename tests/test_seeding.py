"""One seed decides Python's, NumPy's and torch's draws; a place decides its own number."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from gradgene.seeding import GOLDEN, seed_everything, shifted_right, splitmix64


def draw(seed: int) -> tuple[float, float, float]:
    seed_everything(seed)
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_same_seed_same_draws(seed: int) -> None:
    assert draw(seed) == draw(seed)


def test_every_source_depends_on_the_seed() -> None:
    assert all(a != b for a, b in zip(draw(1), draw(2), strict=True))


def test_splitmix64_is_the_published_one() -> None:
    """Its first three outputs from the state 0."""
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [x % 2**64 for x in splitmix64(torch.arange(1, 4) * GOLDEN).tolist()] == expected


def test_what_is_shifted_to_the_right_is_filled_with_zeros() -> None:
    assert shifted_right(torch.tensor([-1, 8]), 60).tolist() == [15, 0]
