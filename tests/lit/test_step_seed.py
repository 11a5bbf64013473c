"""What a step draws depends on where it stands, and on nothing drawn before."""

from __future__ import annotations

import torch

from gradgene.lit.step_seed import seed_step


def drawn(*words: int) -> list[float]:
    """Numbers drawn after seeding."""
    seed_step(*words)
    return torch.rand(4).tolist()


def test_the_same_place_draws_the_same() -> None:
    first = drawn(0, 3, 7, 0)
    torch.rand(100)
    assert drawn(0, 3, 7, 0) == first


def test_every_place_draws_something_else() -> None:
    places = [
        (seed, epoch, batch, rank)
        for seed in (0, 1, 2**31)
        for epoch in range(4)
        for batch in range(4)
        for rank in (0, 1)
    ]
    assert len({tuple(drawn(*place)) for place in places}) == len(places)
