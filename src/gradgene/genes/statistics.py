"""Donors are the replicates: intervals and tests over donor means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from gradgene.genes.crossing import CrossingSums

__all__ = [
    "DonorInterval",
    "benjamini_hochberg",
    "crossed_interval",
    "donor_interval",
    "mean_interval",
    "null_p",
]

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


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean of independent `values` (replicates,); those that are NaN are left out.

    NaN with fewer than three; see `donor_interval`.
    """
    found = donor_interval(values[np.isfinite(values), None], level)
    return float(found.low[0]), float(found.high[0])


def crossed_interval(crossed: CrossingSums, level: float = 0.95) -> DonorInterval:
    """Interval of the mean over donors where donors of baseline cells are drawn as well.

    With w_p = 1 / (pairs of the input cell's donor), scaled to add to 1, the mean is m = Σ w_p s_p.
    A donor is left out with all pairs that it is in, on either side: that moves the mean by
    T_d / (1 - W_d), with T_d = Σ w_p (s_p - m) and W_d = Σ w_p over them. The jackknife over the
    donors of both sides (Tukey 1958; w_p kept) has se² = Σ_d (n_d - 1) / n_d (T_d / (1 - W_d))²,
    n_d the donors of d's side, their geometric mean for a donor of both. Degrees of freedom are
    those of Welch and Satterthwaite for the two sides, at most all donors less one.

    Where both cells of every pair are of one donor this is `donor_interval`; where the sides have
    no donor in common and all combinations weigh the same, Welch's interval.

    Parameters
    ----------
    crossed
        Sums over the pairs of each donor, (rows, features).

    NaN throughout with fewer than three donors on either side, or where the baseline donor of a
    pair is unknown; p is NaN without any spread.
    """
    inputs, baselines, both = (crossed.side(name) for name in ("input", "baseline", "both"))
    n_i, n_b, total = len(inputs[0]), len(baselines[0]), inputs[2].sum()
    nothing = np.full(crossed.sums_rf.shape[1], np.nan)
    if min(n_i, n_b) < MIN_DONORS or not np.isclose(baselines[2].sum(), total):
        return DonorInterval(nothing, nothing, nothing, nothing)
    mean_f = inputs[1].sum(axis=0) / total
    everyone = sorted({*inputs[0], *baselines[0]})
    size_n, share_n = np.ones(len(everyone)), np.zeros(len(everyone))
    moved_nf = np.zeros((len(everyone), len(mean_f)))
    alone = []
    counted = ((inputs, 1, n_i), (baselines, 1, n_b), (both, -1, 0))
    for (names, sums_df, weights_d), sign, n in counted:
        at = [everyone.index(name) for name in names]
        part_df = (sums_df - weights_d[:, None] * mean_f) / total
        moved_nf[at] += sign * part_df
        share_n[at] += sign * weights_d / total
        if n:
            size_n[at] *= (n - 1) / n
            off_df = part_df / (1 - weights_d / total)[:, None]
            alone.append(((n - 1) / n * np.square(off_df).sum(axis=0), n - 1))
    of_both = [everyone.index(name) for name in {*inputs[0]} & {*baselines[0]}]
    size_n[of_both] = np.sqrt(size_n[of_both])
    off_nf = moved_nf / (1 - share_n)[:, None]
    se_f = np.sqrt((size_n[:, None] * np.square(off_nf)).sum(axis=0))
    spread_f = sum(variance_f**2 / df for variance_f, df in alone)
    whole_f = np.square(sum(variance_f for variance_f, _ in alone))
    df_f = np.divide(whole_f, spread_f, out=np.ones(len(mean_f)), where=spread_f > 0)
    df_f = np.minimum(df_f, len(everyone) - 1)
    reach_f = stats.t.ppf((1 + level) / 2, df_f) * se_f
    some = se_f > ROUNDING * np.abs(inputs[1]).max(axis=0)
    t_f = np.divide(mean_f, se_f, out=nothing.copy(), where=some)
    return DonorInterval(
        se_f, mean_f - reach_f, mean_f + reach_f, 2 * stats.t.sf(np.abs(t_f), df_f)
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
