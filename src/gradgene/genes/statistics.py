"""Donors are the replicates: intervals and tests over donor means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gradgene.genes.crossing import CrossingSums

__all__ = ["DonorInterval", "benjamini_hochberg", "crossed_interval", "donor_interval", "null_p"]

#: With fewer donors an interval would say more about the formula than about the genes.
MIN_DONORS = 3
#: A standard error below this share of the largest mean is rounding of donors that are all alike.
ROUNDING = 1e-12


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
    some = se_g > ROUNDING * np.abs(means_dg).max(axis=0)
    t_g = np.divide(mean_g, se_g, out=np.full(g, np.nan), where=some)
    return DonorInterval(
        se_g, mean_g - reach_g, mean_g + reach_g, 2 * stats.t.sf(np.abs(t_g), n - 1)
    )


def crossed_interval(
    means_dg: np.ndarray, donors: Sequence[str], crossed: CrossingSums, level: float = 0.95
) -> DonorInterval:
    """Interval of the mean over donors where donors of baseline cells are drawn as well.

    With w_p = 1 / (donors x pairs of the input cell's donor), the mean is m = Σ w_p s_p. Donor d
    moves it by Σ w_p (s_p - m) over its pairs: φ_d over those of its input cells, χ_d over those of
    its baseline cells, ψ_d over those of both. Then se² = Σ_d (a φ_d + b χ_d - √(ab) ψ_d)², the
    sandwich for pairs that share members, with a² = n / (n - 1) of the n donors of input cells and
    b² so of baseline cells. Degrees of freedom are those of Welch and Satterthwaite for the two
    sides, at most all donors less one. Where the sides have no donor in common this is Welch's
    interval, and `donor_interval` where both cells of every pair are of one.

    Parameters
    ----------
    means_dg, donors
        (donors, features) mean scores of the donors of input cells, and their names.
    crossed
        Sums over the pairs of each donor of baseline cells.

    NaN throughout with fewer than three donors on either side; p is NaN without any spread.
    """
    baselines, sums_bg, weights_b = crossed.side("baseline")
    both, sums_cg, weights_c = crossed.side("both")
    n_i, n_b = len(donors), len(baselines)
    nothing = np.full(means_dg.shape[1], np.nan)
    if min(n_i, n_b) < MIN_DONORS:
        return DonorInterval(nothing, nothing, nothing, nothing)
    mean_g = means_dg.mean(axis=0)
    a, b = np.sqrt(n_i / (n_i - 1)), np.sqrt(n_b / (n_b - 1))
    moved_ig = a * (means_dg - mean_g) / n_i
    moved_bg = b * (sums_bg - weights_b[:, None] * mean_g) / n_i
    moved_cg = np.sqrt(a * b) * (sums_cg - weights_c[:, None] * mean_g) / n_i
    everyone = sorted({*donors, *baselines})
    moved_ng = np.zeros((len(everyone), len(mean_g)))
    for names, part in ((donors, moved_ig), (baselines, moved_bg), (both, -moved_cg)):
        moved_ng[[everyone.index(name) for name in names]] += part
    se_g = np.sqrt(np.square(moved_ng).sum(axis=0))
    of_i, of_b = (np.square(part).sum(axis=0) for part in (moved_ig, moved_bg))
    spread = of_i**2 / (n_i - 1) + of_b**2 / (n_b - 1)
    df_g = np.divide((of_i + of_b) ** 2, spread, out=np.full(len(mean_g), 1.0), where=spread > 0)
    df_g = np.minimum(df_g, len(everyone) - 1)
    reach_g = stats.t.ppf((1 + level) / 2, df_g) * se_g
    some = se_g > ROUNDING * np.abs(means_dg).max(axis=0)
    t_g = np.divide(mean_g, se_g, out=nothing.copy(), where=some)
    return DonorInterval(
        se_g, mean_g - reach_g, mean_g + reach_g, 2 * stats.t.sf(np.abs(t_g), df_g)
    )


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values (Benjamini & Hochberg 1995); NaN stay NaN and are not counted."""
    adjusted = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        adjusted[known] = stats.false_discovery_control(p[known])
    return adjusted


def null_p(score: np.ndarray, null_nf: np.ndarray) -> np.ndarray:
    """(features,) two-sided p of `score` against `null_nf` (draws, features), unadjusted.

    The score is compared with the t-distribution that a further draw would follow, were draws
    normal: z = (score - mean) / (sd √(1 + 1/draws)), with draws - 1 degrees of freedom. So few
    draws suffice for small p, which counting draws would need many for.

    Draws exchange input cells and not donors: a small p says that labels matter to the scores of
    these cells, and only the interval over donors whether they would in other donors. Where the
    two sides are of different donors and donors differ, p is too small. NaN throughout with fewer
    than two draws, and where draws do not differ: exchanging labels then changes nothing.
    """
    n = len(null_nf)
    if n < 2:
        return np.full(len(score), np.nan)
    # Differences from one draw are exactly 0 where all draws are equal.
    off_nf = null_nf - null_nf[:1]
    spread_f = off_nf.std(axis=0, ddof=1) * np.sqrt(1 + 1 / n)
    off_f = score - null_nf[0] - off_nf.mean(axis=0)
    z_f = np.divide(off_f, spread_f, out=np.full(len(score), np.nan), where=spread_f > 0)
    return np.asarray(2 * stats.t.sf(np.abs(z_f), n - 1))
