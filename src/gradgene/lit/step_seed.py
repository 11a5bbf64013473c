"""Chance that depends on where a training stands, not on what was drawn before."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["seed_step"]


def seed_step(*words: int) -> None:
    """Seed torch (all devices) from whole numbers >= 0, such as (seed, epoch, batch, rank).

    Called before every batch it makes dropout a function of these numbers, so that a resumed
    training draws what an uninterrupted one would have drawn, and no two ranks draw the same.
    """
    state = np.random.SeedSequence(words).generate_state(2, np.uint32)
    seed = int(state[0]) << 31 ^ int(state[1])
    # What `torch.manual_seed` does, without the stack trace it formats for every absent device:
    # that takes longer than a small model's optimiser step.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
