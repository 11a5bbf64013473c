"""How the learning rate changes with the step: pure functions."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the highest learning rate that optimiser step `step` (from 0) uses.

    It rises linearly over the first `warmup` steps, reaching 1 at step `warmup - 1`, and falls
    along half a cosine to 0 at step `total`; beyond that it stays 0.
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
