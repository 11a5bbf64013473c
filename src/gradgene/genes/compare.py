"""How far two gene tables agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

from gradgene.errors import RankingError

__all__ = ["TableComparison", "compare_genes"]


@dataclass(frozen=True)
class TableComparison:
    """Agreement of two gene tables over the genes that both have ranked.

    Attributes
    ----------
    n_genes
        Genes ranked in both.
    k
        How many best genes are compared: what was asked for, or all where there are fewer.
    spearman
        Rank correlation of the scores; NaN where one table has a single score throughout.
    overlap_at_k
        Share of the `k` best shared genes of one table that are among those of the other; by
        chance it is k / n_genes.
    direction_agreement
        Among genes in both lists of `k` with a direction in both: the share with the same one.
        NaN without any.
    sign_agreement
        Among genes in both lists of `k`: the share whose scores have the same sign. NaN without
        any.
    """

    n_genes: int
    k: int
    spearman: float
    overlap_at_k: float
    direction_agreement: float
    sign_agreement: float

    def to_pandas(self) -> pd.DataFrame:
        """One row with a column for each figure."""
        return pd.DataFrame([asdict(self)])


def compare_genes(first: pd.DataFrame, second: pd.DataFrame, k: int) -> TableComparison:
    """Compare two frames of ranked genes: `gene, rank, score, direction`.

    Raises `RankingError` if they share no gene or `k` is below 1.
    """
    if k < 1:
        raise RankingError("nothing to compare", expected="k of at least 1", found=str(k))
    columns = ["gene", "rank", "score", "direction"]
    both = first[columns].merge(second[columns], on="gene", suffixes=("_a", "_b"))
    if both.empty:
        raise RankingError(
            "the tables have no gene in common",
            expected=f"genes such as {', '.join(map(str, first['gene'].head(3)))}",
            found=", ".join(map(str, second["gene"].head(3))),
            fix="compare tables with gene names of one kind",
        )
    k = min(k, len(both))
    best = [set(both.nsmallest(k, rank)["gene"]) for rank in ("rank_a", "rank_b")]
    top = both[both["gene"].isin(best[0] & best[1])]
    directed = top.dropna(subset=["direction_a", "direction_b"])
    signs = np.sign(top[["score_a", "score_b"]].to_numpy(dtype=float))
    return TableComparison(
        n_genes=len(both),
        k=k,
        spearman=_spearman(both["score_a"].to_numpy(float), both["score_b"].to_numpy(float)),
        overlap_at_k=len(top) / k,
        direction_agreement=_share(directed["direction_a"] == directed["direction_b"]),
        sign_agreement=_share(signs[:, 0] == signs[:, 1]),
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def _share(agree: pd.Series | np.ndarray) -> float:
    return float(np.mean(agree)) if len(agree) else float("nan")
