"""One seed for every source of chance in a stage."""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["seed_everything"]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices) with `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  scanpy and others draw from the global one
    torch.manual_seed(seed)
