"""Which genes of a long cell are kept."""

from __future__ import annotations

import numpy as np

__all__ = ["lowest_of_each"]


def lowest_of_each(value: np.ndarray, n_n: np.ndarray, limit: int) -> np.ndarray:
    """bool: is an entry among the `limit` lowest of its cell; cells follow each other."""
    kept = np.ones(value.size, dtype=bool)
    start_n = np.cumsum(n_n) - n_n
    for i in np.flatnonzero(n_n > limit):
        mine = slice(start_n[i], start_n[i] + n_n[i])
        kept[start_n[i] + np.argpartition(value[mine], limit)[limit:]] = False
    return kept
