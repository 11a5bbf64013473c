"""Which genes does the model read together, beyond what each of them does alone?

Interaction
    In each pair of cells, drawn whatever their labels, g(high, high) - g(high, low) - g(low, high)
    + g(low, low): f with each of two genes in the higher or the lower of the two cells' states. It
    is 0 in a pair that does not differ in both. The interaction of two genes is its mean over all
    pairs, donors counting alike: positive where both high speak more for the label than the one and
    the other do, negative where they say the same twice or one takes back what the other says, as
    in an exclusive or.
What single effects alone would give
    Of a model that bends the sum of its genes, f = h(Σ φ_g), every two genes interact: to second
    order by κ a_i a_j with one κ = h'' / h'² for all (a shared curvature; "global epistasis",
    Otwinowski, McCandlish and Plotkin 2018). `expected` is κ a_i a_j x the share of pairs that
    differ in both, a_g being the mean effect of a gene on its own where it differs. κ is the
    weighted median of the ratios of interactions to it, the weights (its sizes) capped at their
    median, so that no single pair, nor a few true interactions, set it; with fewer than five genes
    there are too few to tell a curvature from them, and κ is 0. `excess` is the interaction without
    it, and what genes are ranked by.
Null from permuted pairs
    In each pair of cells on its own, excesses are dealt anew among the genes that differ there: the
    genes are permuted, rows and columns alike. H0: beyond their single effects it makes no
    difference which two genes they are. `null_mean` is the mean over `n_null` such draws, p the
    share of draws, counting the data as one, whose distance from it is no smaller, and p_adjusted
    the same of the largest distance among all gene pairs (the single-step maximum of Westfall and
    Young 1993). A strong interaction is in the draws as well, so that the p of weaker ones beside
    it are too large rather than too small. Pairs of cells count as independent; only the interval
    is over donors, those of the first cells. No p is less than 1 / (n_null + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from gradgene.attribution import GeneInteractions
from gradgene.errors import ConfigError, RankingError, closest, require_least
from gradgene.genes import donor_interval

__all__ = ["INTERACTION_COLUMNS", "Interactions", "interaction_table"]

#: Of `interaction_table`; the file has `method` and `seed` besides.
INTERACTION_COLUMNS = (
    "gene_a",
    "gene_b",
    "interaction",
    "ci_low",
    "ci_high",
    "mean_abs",
    "expected",
    "excess",
    "null_mean",
    "p",
    "p_adjusted",
    "rank",
    "n_moved",
    "n_pairs",
    "n_donors",
)
#: With fewer genes a shared curvature cannot be told from the interactions of single pairs.
MIN_GENES = 5
InteractionMethod = Literal["finite_differences", "integrated_hessians"]


@dataclass(frozen=True)
class Interactions:
    """Interactions of every two of the best genes, in held-out cells.

    Parameters
    ----------
    top_k
        How many of the best genes of a ranking made on training cells.
    genes
        Names of genes in place of the best.
    ranking
        That ranking, `<method>/<importance>[/abs]`; None for the one the study is about.
    method
        "finite_differences", or "integrated_hessians" where the model is smooth.
    max_pairs
        Pairs of cells whose states the genes take.
    n_null
        Times that interactions are dealt anew among the genes; 0 for no such test.
    n_steps
        Nodes of the integral, for "integrated_hessians".
    batch_tokens
        Padded tokens per forward pass.

    Raises
    ------
    ConfigError
        For fewer than two genes, numbers out of range or an unknown method.
    """

    top_k: int = 20
    genes: tuple[str, ...] | None = None
    ranking: str | None = None
    method: InteractionMethod = "finite_differences"
    max_pairs: int = 32
    n_null: int = 1000
    n_steps: int = 20
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        if self.method not in get_args(InteractionMethod):
            raise ConfigError(
                f"unknown method {self.method!r}",
                where="evaluation.interactions.method",
                expected=f"one of {closest(self.method, get_args(InteractionMethod))}",
            )
        require_least(
            "evaluation.interactions",
            top_k=(self.top_k, 2),
            max_pairs=(self.max_pairs, 1),
            n_null=(self.n_null, 0),
            n_steps=(self.n_steps, 1),
            batch_tokens=(self.batch_tokens, 1),
        )
        if self.genes is not None and len(set(self.genes)) < max(2, len(self.genes)):
            raise ConfigError(
                "needs two genes or more, each once",
                where="evaluation.interactions.genes",
                found=", ".join(self.genes) or "none",
            )


def interaction_table(
    found: GeneInteractions,
    genes: Sequence[str],
    donors_p: np.ndarray | None = None,
    n_null: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every two genes, the largest excess first; see the top of this file.

    Parameters
    ----------
    found
        Of the same genes, over pairs of cells drawn whatever their labels.
    genes
        Their names.
    donors_p
        (pairs,) donor of each pair's first cell; None for no donors, and pairs then count alike.
    n_null
        Draws of the null; with 0 `null_mean` and both p are NaN.
    seed
        Seed of the draws.

    Returns
    -------
    DataFrame
        `INTERACTION_COLUMNS`: `gene_a` is the one named first in `genes`. `interaction` with its
        95 % interval over donors (NaN with fewer than three), `mean_abs` (mean magnitude in the
        pairs), `expected`, `excess` and `null_mean` in the units of f; `n_moved` pairs of cells
        that differ in both genes; `n_donors` None without donors.

    Raises
    ------
    RankingError
        If names and measured genes differ in number.
    """
    if found.single_pk.shape[1] != len(genes):
        raise RankingError(
            "names and measured genes differ in number",
            expected=str(found.single_pk.shape[1]),
            found=str(len(genes)),
        )
    first, second = np.triu_indices(len(genes), 1)
    names = np.array(genes, dtype=object)
    frame = pd.DataFrame(
        {
            "gene_a": names[first],
            "gene_b": names[second],
            **_statistics(found, donors_p, n_null, seed),
            "n_pairs": len(found),
            "n_donors": None if donors_p is None else len(set(donors_p.tolist())),
        }
    )
    frame = frame.iloc[np.argsort(-frame["excess"].abs(), kind="stable")]
    frame = frame.assign(rank=np.arange(1, len(frame) + 1))
    return frame[[*INTERACTION_COLUMNS]].reset_index(drop=True)


def _statistics(
    found: GeneInteractions, donors_p: np.ndarray | None, n_null: int, seed: int
) -> dict[str, np.ndarray]:
    """Columns of the table, of every two genes in the order of `triu_indices`."""
    upward_pkk, moved_pk = found.upward_pkk.numpy(), found.direction_pk.numpy() != 0
    first, second = np.triu_indices(moved_pk.shape[1], 1)
    weight_p = _weights(donors_p, len(found))
    expected_pkk = _expected(upward_pkk, found.upward_pk.numpy(), moved_pk, weight_p)
    excess_pkk = upward_pkk - expected_pkk
    low, high = _interval(upward_pkk, donors_p)
    null_mean, p, p_adjusted = _permuted(excess_pkk, moved_pk, weight_p, n_null, seed)
    return {
        "interaction": _mean(upward_pkk, weight_p),
        "ci_low": low,
        "ci_high": high,
        "mean_abs": _mean(np.abs(upward_pkk), weight_p),
        "expected": _mean(expected_pkk, weight_p),
        "excess": _mean(excess_pkk, weight_p),
        "null_mean": null_mean,
        "p": p,
        "p_adjusted": p_adjusted,
        "n_moved": (moved_pk[:, first] & moved_pk[:, second]).sum(axis=0),
    }


def _mean(x_pkk: np.ndarray, weight_p: np.ndarray) -> np.ndarray:
    """(gene pairs,) weighted means of every two genes, in the order of `triu_indices`."""
    mean_kk = np.tensordot(weight_p, x_pkk, axes=1)
    return np.asarray(mean_kk[np.triu_indices(len(mean_kk), 1)])


def _interval(upward_pkk: np.ndarray, donors_p: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the mean over donors, in the order of `triu_indices`."""
    first, second = np.triu_indices(upward_pkk.shape[1], 1)
    names = [] if donors_p is None else sorted(set(donors_p.tolist()))
    means = [upward_pkk[donors_p == name].mean(axis=0)[first, second] for name in names]
    interval = donor_interval(np.array(means).reshape(-1, len(first)))
    return interval.low, interval.high


def _weights(donors_p: np.ndarray | None, n: int) -> np.ndarray:
    """(pairs,) adding up to 1, those of each donor to the same."""
    if donors_p is None:
        return np.full(n, 1 / n)
    _, donor_p, count_d = np.unique(donors_p.astype(str), return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(count_d) * count_d[donor_p]))


def _expected(
    upward_pkk: np.ndarray, single_pk: np.ndarray, moved_pk: np.ndarray, weight_p: np.ndarray
) -> np.ndarray:
    """(pairs, genes, genes) what a curvature that all genes share makes of their single effects."""
    share_k = weight_p @ moved_pk
    mean_k = np.divide(weight_p @ single_pk, share_k, out=np.zeros(len(share_k)), where=share_k > 0)
    both_pkk = moved_pk[:, :, None] & moved_pk[:, None]
    product_pkk = mean_k[:, None] * mean_k * both_pkk
    if len(mean_k) < MIN_GENES:
        return np.zeros_like(product_pkk)
    slope = _slope(_mean(product_pkk, weight_p), _mean(upward_pkk, weight_p))
    return np.asarray(slope * product_pkk)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """The weighted median of the ratios y / x, weights |x| capped at their median (no single pair
    may set the curvature); 0 if all x are.
    """
    x, y = x[x != 0], y[x != 0]
    if not len(x):
        return 0.0
    ratio = y / x
    order = np.argsort(ratio, kind="stable")
    weight = np.minimum(np.abs(x), np.median(np.abs(x)))
    below = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(below, below[-1] / 2)])


def _permuted(
    excess_pkk: np.ndarray, moved_pk: np.ndarray, weight_p: np.ndarray, n_null: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of the null, p and adjusted p of every two genes, in the order of `triu_indices`."""
    n_pairs, k = moved_pk.shape
    excess_f = _mean(excess_pkk, weight_p)
    if not n_null:
        nothing = np.full(len(excess_f), np.nan)
        return nothing, nothing, nothing
    rng = np.random.default_rng(seed)
    pair = np.arange(n_pairs)[:, None, None]
    # Genes that differ come first in both orders: the one deals those of the other anew.
    place_pk = np.argsort(~moved_pk, axis=1, kind="stable")
    null_nf = np.empty((n_null, len(excess_f)))
    for draw in range(n_null):
        key_pk = np.where(moved_pk, rng.random((n_pairs, k)), 1 + np.arange(k))
        dealt_pk = np.empty_like(place_pk)
        np.put_along_axis(dealt_pk, place_pk, np.argsort(key_pk, axis=1), axis=1)
        dealt_pkk = excess_pkk[pair, dealt_pk[:, :, None], dealt_pk[:, None]]
        null_nf[draw] = _mean(dealt_pkk, weight_p)
    mean_f = null_nf.mean(axis=0)
    far_f = np.abs(excess_f - mean_f)
    far_nf = np.abs(null_nf - mean_f)
    # Equal up to rounding counts as no smaller.
    near_f = far_f * (1 - 1e-9)
    p = (1 + (far_nf >= near_f).sum(axis=0)) / (n_null + 1)
    adjusted = (1 + (far_nf.max(axis=1)[:, None] >= near_f).sum(axis=0)) / (n_null + 1)
    return mean_f, p, adjusted
