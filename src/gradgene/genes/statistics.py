"""Donors are the replicates: intervals and tests over donor means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["DonorInterval", "benjamini_hochberg", "donor_interval"]

#: With fewer donors an interval would say more about the formula than about the genes.
MIN_DONORS = 3


@dataclass(frozen=True)
class DonorInterval:
    """t-interval over donor means: se, bounds and two-sided p against 0, all (features,)."""

    se: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def donor_interval(means_dg: np.ndarray, level: float = 0.95) -> DonorInterval:
    """Interval of the mean over donors of `means_dg` (donors, features).

    NaN throughout with fewer than three donors; p is NaN for a feature without any spread.
    """
    n, g = means_dg.shape
    if n < MIN_DONORS:
        nothing = np.full(g, np.nan)
        return DonorInterval(nothing, nothing, nothing, nothing)
    mean_g = means_dg.mean(axis=0)
    se_g = means_dg.std(axis=0, ddof=1) / np.sqrt(n)
    reach_g = stats.t.ppf((1 + level) / 2, n - 1) * se_g
    t_g = np.divide(mean_g, se_g, out=np.full(g, np.nan), where=se_g > 0)
    return DonorInterval(
        se_g, mean_g - reach_g, mean_g + reach_g, 2 * stats.t.sf(np.abs(t_g), n - 1)
    )


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values (Benjamini & Hochberg 1995); NaN stay NaN and are not counted."""
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted
