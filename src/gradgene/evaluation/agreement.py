"""How far rankings agree, what they agree on, and which genes they disagree about.

Formulas
    Spearman's correlation of the scores; the share of the best k genes that two rankings have in
    common, s, of which Jaccard's index of the two lists is s / (2 - s). The consensus of n rankings
    of g genes is the mean rank (Borda). Robust rank aggregation (Kolde, Laur, Adler and Vilo 2012,
    Bioinformatics 28:573): with r_(1) ≤ … ≤ r_(n) the ranks of a gene divided by g, in order,
    ρ = min_k P(Beta(k, n - k + 1) ≤ r_(k)), small where more rankings place a gene high than would
    by chance, even if others do not; its p is at most n ρ (Bonferroni).
What it says not
    Methods on one model share its errors, so that agreement does not make a ranking true; and ρ
    takes rankings for independent ones, which these are not: read its order, not its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from gradgene.errors import RankingError

__all__ = [
    "Similarity",
    "consensus",
    "correlations",
    "disputed",
    "rank_correlation",
    "robust_rank",
    "similarity",
]


@dataclass(frozen=True)
class Similarity:
    """How alike two lists of scores rank the same genes.

    Attributes
    ----------
    spearman
        Rank correlation of the scores; NaN where one list has a single score throughout.
    spearman_abs
        That of their magnitudes.
    top_overlap
        Share of the k best genes that both have; by chance k / n_genes.
    n_genes
        Genes compared.
    """

    spearman: float
    spearman_abs: float
    top_overlap: float
    n_genes: int


def similarity(
    first_g: np.ndarray, second_g: np.ndarray, top_k: int = 30, *, absolute: bool = False
) -> Similarity:
    """Compare two scores (genes,) of the same genes; `absolute` takes the best by magnitude.

    Equal scores are ordered by position. Raises `RankingError` for lists of unequal length, without
    genes or with scores that are not finite.
    """
    _require_comparable(first_g, second_g)
    k = min(top_k, len(first_g))
    best = [
        set(np.argsort(-(np.abs(x) if absolute else x), kind="stable")[:k].tolist())
        for x in (first_g, second_g)
    ]
    shared = len(best[0] & best[1])
    return Similarity(
        spearman=rank_correlation(first_g, second_g),
        spearman_abs=rank_correlation(np.abs(first_g), np.abs(second_g)),
        top_overlap=shared / k,
        n_genes=len(first_g),
    )


def rank_correlation(
    first_g: np.ndarray, second_g: np.ndarray, given_g: np.ndarray | None = None
) -> float:
    """Spearman's correlation of two lists (genes,); NaN where one has a single value.

    With `given_g` the partial one: what is left of it between genes alike in `given_g`,
    (r_ab - r_ac r_bc) / √((1 - r_ac²)(1 - r_bc²)).
    """
    ab = _pearson(stats.rankdata(first_g), stats.rankdata(second_g))
    if given_g is None or np.ptp(given_g) == 0:
        return ab
    ac, bc = (rank_correlation(x, given_g) for x in (first_g, second_g))
    left = (1 - ac**2) * (1 - bc**2)
    # A list in the very order of the third has nothing left.
    return float((ab - ac * bc) / left**0.5) if left > 1e-12 else float("nan")


def correlations(rankings: pd.DataFrame, top_k: int = 30) -> pd.DataFrame:
    """Agreement of all rankings, two by two.

    Parameters
    ----------
    rankings
        `ranking, gene, score`, each ranking of the same genes; genes that score exactly 0 in all of
        them are left out: they were in no pair.
    top_k
        How many best genes to compare.

    Returns
    -------
    DataFrame
        One row an ordered pair of rankings, each with itself included, in their order:
        `first, second, spearman, top_overlap, n_genes`.

    Raises
    ------
    RankingError
        If rankings have different genes, or none has scores.
    """
    scores_gr = _wide(rankings)
    names = [str(name) for name in scores_gr.columns]
    values = [scores_gr[name].to_numpy(dtype=float) for name in scores_gr.columns]
    ranks = [stats.rankdata(x) for x in values]
    k = min(top_k, len(scores_gr))
    best = [set(np.argsort(-x, kind="stable")[:k].tolist()) for x in values]
    rows = []
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            shared = len(best[i] & best[j])
            rho = _pearson(ranks[i], ranks[j])
            rows.append((first, second, rho, shared / k))
    columns = ["first", "second", "spearman", "top_overlap"]
    return pd.DataFrame(rows, columns=columns).assign(n_genes=len(scores_gr))


def consensus(rankings: pd.DataFrame, methods: Sequence[str], top_k: int = 30) -> pd.DataFrame:
    """One ranking out of several, and how far they disagree on each gene.

    Parameters
    ----------
    rankings
        `ranking, gene, score`, as for `correlations`.
    methods
        Names of the rankings to take, one a method, so that none has more votes than another.
    top_k
        How many genes of a ranking are its best.

    Returns
    -------
    DataFrame
        Best gene first: `gene`, `rank` (by mean rank, ties by ρ and then by name), `mean_rank`,
        `rra_rho`, `rra_p`, `n_methods_in_top`, `spread` (standard deviation of the ranks, with
        n - 1), and the gene's place in each as `rank/<method>`; equal scores share the mean of
        their places.

    Raises
    ------
    RankingError
        If there are fewer than two, or one is missing.
    """
    missing = [name for name in methods if name not in set(rankings["ranking"])]
    if len(methods) < 2 or missing:
        raise RankingError(
            "a consensus needs two rankings",
            expected=", ".join(methods),
            found=f"no {', '.join(missing)}" if missing else str(len(methods)),
        )
    scores_gr = _wide(rankings[rankings["ranking"].isin(methods)])[list(methods)]
    ranks_gr = (-scores_gr).rank(method="average")
    rho_g = robust_rank(ranks_gr.to_numpy() / len(ranks_gr))
    frame = pd.DataFrame(
        {
            "gene": scores_gr.index.astype(str),
            "mean_rank": ranks_gr.mean(axis=1).to_numpy(),
            "rra_rho": rho_g,
            "rra_p": np.minimum(1, len(methods) * rho_g),
            "n_methods_in_top": (ranks_gr <= top_k).sum(axis=1).to_numpy(),
            "spread": ranks_gr.std(axis=1, ddof=1).to_numpy(),
            **{f"rank/{name}": ranks_gr[name].to_numpy() for name in methods},
        }
    )
    frame = frame.sort_values(["mean_rank", "rra_rho", "gene"], kind="stable")
    frame.insert(1, "rank", np.arange(1, len(frame) + 1))
    return frame.reset_index(drop=True)


def robust_rank(ranks_gr: np.ndarray) -> np.ndarray:
    """ρ (genes,) of robust rank aggregation from normalised ranks in (0, 1] (genes, rankings)."""
    n = ranks_gr.shape[1]
    k_r = np.arange(1, n + 1)
    below_gr = special.betainc(k_r, n - k_r + 1, np.sort(ranks_gr, axis=1))
    rho_g: np.ndarray = below_gr.min(axis=1)
    return rho_g


def disputed(agreed: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """The rows of a `consensus` about which methods disagree most: of those among the best of at
    least one method but not of all, the ones whose places lie furthest apart.
    """
    n_methods = sum(column.startswith("rank/") for column in agreed.columns)
    some = agreed[agreed["n_methods_in_top"].between(1, n_methods - 1)]
    return some.sort_values("spread", ascending=False, kind="stable").head(n)


def _wide(rankings: pd.DataFrame) -> pd.DataFrame:
    """(genes, rankings) scores of the genes that score in any of them, genes in order of name."""
    wide = rankings.pivot_table(
        index="gene", columns="ranking", values="score", sort=False, aggfunc="mean"
    )
    if wide.empty or wide.isna().to_numpy().any():
        raise RankingError(
            "rankings can only be compared over the same genes",
            expected="a score of every gene in every ranking",
            found=f"{len(wide)} genes, {int(wide.isna().to_numpy().sum())} scores missing",
        )
    return wide[(wide != 0).any(axis=1)].sort_index()


def _require_comparable(first_g: np.ndarray, second_g: np.ndarray) -> None:
    finite = np.isfinite(first_g).all() and np.isfinite(second_g).all()
    if first_g.shape != second_g.shape or not len(first_g) or not finite:
        raise RankingError(
            "scores cannot be compared",
            expected="finite scores of the same genes",
            found=f"{len(first_g)} and {len(second_g)} scores",
        )


def _pearson(first_g: np.ndarray, second_g: np.ndarray) -> float:
    """Pearson's correlation; NaN where one list has a single value."""
    a_g, b_g = first_g - first_g.mean(), second_g - second_g.mean()
    size = np.sqrt((a_g @ a_g) * (b_g @ b_g))
    return float(np.clip(a_g @ b_g / size, -1, 1)) if size > 0 else float("nan")
