"""Batches of cells of similar length, by a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

__all__ = ["length_batches", "padded"]

#: In shuffled batches lengths are blurred by up to this share, so that cells change company.
SPREAD = 0.05


def padded(n_tokens_n: Tensor) -> int:
    """Tokens of cells of these lengths in one batch, padding included."""
    return len(n_tokens_n) * int(n_tokens_n.max())


def length_batches(
    n_tokens_n: Tensor, batch_tokens: int, rng: np.random.Generator | None = None
) -> Iterator[Tensor]:
    """Row indices, each row once, at most `batch_tokens` padded tokens a batch.

    A cell longer than that is a batch of its own.

    Parameters
    ----------
    n_tokens_n
        (cells,) number of tokens of each cell.
    batch_tokens
        Largest number of cells x tokens of the longest cell.
    rng
        None: longest cells first, so that a batch that does not fit in memory fails at once and not
        after hours. Otherwise batches come in random order, with other cells in them at every call.
    """
    length_n = n_tokens_n.numpy(force=True).astype(np.float64)
    if rng is not None:
        length_n *= 1 + SPREAD * rng.random(length_n.size)
    order = np.argsort(-length_n, kind="stable")
    # Blurring only lengthens, so the first of a batch is an upper bound of all of them.
    bound = np.maximum(np.ceil(length_n[order]), 1).astype(np.int64)
    starts = [0]
    while starts[-1] < len(order):
        starts.append(starts[-1] + max(1, batch_tokens // int(bound[starts[-1]])))
    batches = [order[start:stop] for start, stop in pairwise(starts)]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    yield from map(torch.from_numpy, batches)
