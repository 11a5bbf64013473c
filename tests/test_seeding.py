"""One seed decides Python's, NumPy's and torch's draws."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from gradgene.seeding import seed_everything


def draw(seed: int) -> tuple[float, float, float]:
    seed_everything(seed)
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5])
def test_same_seed_same_draws(seed: int) -> None:
    assert draw(seed) == draw(seed)


def test_every_source_depends_on_the_seed() -> None:
    assert all(a != b for a, b in zip(draw(1), draw(2), strict=True))
