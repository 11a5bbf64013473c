"""Numbers of single pairs: joined over batches, and summed up with an interval over donors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from scipy import stats
from torch import Tensor

__all__ = ["MIN_UNITS", "PerPair", "ratio", "ratio_interval"]

#: With fewer units an interval would say more about the formula than about the scores.
MIN_UNITS = 3


@dataclass(frozen=True)
class PerPair:
    """Tensors whose first axis is pairs."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The pairs of all parts, in their order."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def ratio(top_p: Tensor, bottom_p: Tensor) -> float:
    """Σ top / Σ bottom over all pairs, the mean where `bottom_p` is 1; NaN for a bottom of 0."""
    bottom = float(bottom_p.sum())
    return float(top_p.sum()) / bottom if bottom > 0 else float("nan")


def ratio_interval(
    top_p: Tensor,
    bottom_p: Tensor,
    donors_p: Tensor | np.ndarray | None = None,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bounds of `ratio`: a t-interval of the ratio estimator over pairs or over donors.

    A unit u (a pair, or all pairs of a donor) has the sums T_u and B_u; with R = Σ T / Σ B the
    standard error is √(n / (n - 1) Σ (T_u - R B_u)²) / Σ B (Cochran 1977, §6.4), with n - 1 degrees
    of freedom.

    Parameters
    ----------
    top_p, bottom_p
        (pairs,) on the CPU; the bottom is not negative.
    donors_p
        (pairs,) whole numbers: the donor of each pair. Pairs of one donor are no replicates, so
        give them where there are donors; None takes every pair as a unit.
    level
        Confidence.

    Returns
    -------
    tuple
        Low and high; NaN with fewer than three units or where the ratio is not a number.
    """
    top, bottom, value = top_p.numpy(), bottom_p.numpy(), ratio(top_p, bottom_p)
    if donors_p is not None:
        _, unit_p = np.unique(np.asarray(donors_p), return_inverse=True)
        top, bottom = np.bincount(unit_p, top), np.bincount(unit_p, bottom)
    n = len(top)
    if n < MIN_UNITS or not np.isfinite(value):
        return float("nan"), float("nan")
    spread = np.sqrt(n / (n - 1) * np.square(top - value * bottom).sum())
    reach = float(stats.t.ppf((1 + level) / 2, n - 1) * spread / bottom.sum())
    return value - reach, value + reach
