"""How much of a gene's score goes with sequencing depth and batch instead of the label."""

from __future__ import annotations

from typing import cast

import numpy as np

from gradgene.errors import RankingError
from gradgene.genes.sums import GeneSums

__all__ = ["batch_share", "depth_correlation", "explained_share"]

#: A spread below this share of the sum of squares is rounding of a constant.
ROUNDING = 1e-12


def depth_correlation(sums: GeneSums) -> np.ndarray:
    """(features,) Pearson correlation over pairs of the main score (absent = 0) with depth.

    NaN where score or depth does not vary. Raises `RankingError` for sums without depth.
    """
    depth_g, depth_square_g = _depth(sums)
    n = max(sums.n_pairs, 1)
    score, square = sums.total(sums.main), sums.total(f"{sums.main}/square")
    spread = _spread(square, score**2 / n)
    depth_spread = _spread(depth_square_g.sum(), depth_g.sum() ** 2 / n)
    shared = sums.total(f"{sums.main}/depth") - score * depth_g.sum() / n
    scale = np.sqrt(spread * depth_spread)
    nothing = np.full(len(score), np.nan)
    found = np.divide(shared, scale, out=nothing, where=scale > 0)
    return cast(np.ndarray, np.clip(found, -1.0, 1.0))


def explained_share(sums: GeneSums) -> np.ndarray:
    """(features,) adjusted R² over pairs of the main score (absent = 0) on batches and depth.

    Batches are the combinations of the input cells' donors and the two batches of pairs, each with
    a mean of its own; depth has one slope. Below 0, where chance explains as much, it is 0. NaN
    where the score does not vary or there are no more pairs than coefficients. Raises
    `RankingError` for sums without depth.
    """
    depth_g, depth_square_g = _depth(sums)
    groups = sums.groups[["donor", "batch"]].fillna("").astype(str)
    number_g = groups.groupby(["donor", "batch"], sort=True).ngroup().to_numpy()
    some_g = sums.n_pairs_g > 0
    numbers = np.unique(number_g[some_g])
    member_bg = ((number_g == numbers[:, None]) & some_g).astype(np.float64)
    n_b = member_bg @ sums.n_pairs_g
    score_bf = member_bg @ sums.sums[sums.main]
    depth_b = member_bg @ depth_g
    square = sums.total(f"{sums.main}/square")
    n = max(sums.n_pairs, 1)
    spread = _spread(square, sums.total(sums.main) ** 2 / n)
    within = np.maximum(square - (score_bf**2 / n_b[:, None]).sum(axis=0), 0.0)
    depth_within = _spread(depth_square_g.sum(), (depth_b**2 / n_b).sum())
    n_coefficients = len(numbers)
    residual = within
    if depth_within > 0:
        shared = sums.total(f"{sums.main}/depth") - (depth_b / n_b) @ score_bf
        residual = np.maximum(within - shared**2 / depth_within, 0.0)
        n_coefficients += 1
    if n <= n_coefficients:
        return np.full(len(square), np.nan)
    left = np.divide(residual, spread, out=np.full(len(square), np.nan), where=spread > 0)
    return cast(np.ndarray, np.maximum(1 - left * (n - 1) / (n - n_coefficients), 0.0))


def batch_share(sums: GeneSums) -> np.ndarray:
    """(features,) what batches add to the adjusted R² of depth alone; never below 0.

    A score that follows depth has a share near 0 here, however much of it `explained_share` says.
    NaN and errors as there.
    """
    of_depth = np.nan_to_num(depth_correlation(sums)) ** 2
    n = sums.n_pairs
    adjusted = 1 - (1 - of_depth) * (n - 1) / max(n - 2, 1)
    return cast(np.ndarray, np.maximum(explained_share(sums) - np.maximum(adjusted, 0.0), 0.0))


def _depth(sums: GeneSums) -> tuple[np.ndarray, np.ndarray]:
    if sums.depth_g is None or sums.depth_square_g is None:
        raise RankingError("the sums were taken without the depth of pairs")
    return sums.depth_g, sums.depth_square_g


def _spread(square: np.ndarray, of_mean: np.ndarray) -> np.ndarray:
    """Sum of squares around the mean, exactly 0 where only rounding is left."""
    found = np.asarray(square - of_mean)
    return np.where(found > ROUNDING * np.abs(square), found, 0.0)
