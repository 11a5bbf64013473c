"""Chance: one seed for every source in a stage, and numbers that follow from a place alone."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["GOLDEN", "seed_everything", "shifted_right", "splitmix64"]

#: Constants of SplitMix64 (Steele, Lea and Flood 2014) as signed integers, which wrap around as
#: unsigned ones do.
GOLDEN, FIRST, SECOND = (
    word - 2**64 for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices) with `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  scanpy and others draw from the global one
    torch.manual_seed(seed)


def splitmix64(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64: a permutation of the int64, the same on every device.

    What it makes of `seed + k * GOLDEN` is the k-th number of the generator.
    """
    x = (x ^ shifted_right(x, 30)) * FIRST
    x = (x ^ shifted_right(x, 27)) * SECOND
    return x ^ shifted_right(x, 31)


def shifted_right(x: Tensor, bits: int) -> Tensor:
    """`x` (int64) to the right with zeros coming in; torch's own shift repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
