"""Would other pairs, donors, seeds or baselines have given the same ranking?

How many pairs are enough
    The pairs are halved at random, whole input cells at a time. The first half gives nested samples
    of 10, 20, 50, 100, … pairs, and the mean scores of each are compared with those of the whole
    other half: no pair is on both sides, so that the likeness is not that of a ranking with itself.
    Donors, and cells that several pairs share as their baseline, are on both sides: other donors
    may agree less.
Donors
    Each donor of input cells is left out in turn: the ranking of the others is compared with that
    of all ("all"), which says how much rests on one donor, and with that of the donor left out
    ("donor"), which shares no input cell with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from gradgene.errors import RankingError, require_least
from gradgene.evaluation.agreement import similarity
from gradgene.genes import DonorScores
from gradgene.genes.compare import compare_genes

__all__ = [
    "Plateau",
    "Stability",
    "donor_stability",
    "pair_stability",
    "plateau",
    "table_stability",
]

#: Share of the likeness at the most pairs that counts as having reached it.
REACHED = 0.95


@dataclass(frozen=True)
class Stability:
    """How far a ranking depends on the pairs and donors it is made of, and on the method.

    Parameters
    ----------
    n_pairs
        Held-out pairs that are attributed once more, to draw subsamples from their scores.
    n_draws
        Random halvings of the pairs.
    top_k
        How many of the best genes are compared.
    seed
        Seed of the halvings, and of the sample of pairs.

    Raises
    ------
    ConfigError
        For numbers out of range.
    """

    n_pairs: int = 512
    n_draws: int = 20
    top_k: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(
            "evaluation.stability",
            n_pairs=(self.n_pairs, 4),
            n_draws=(self.n_draws, 1),
            top_k=(self.top_k, 1),
            seed=(self.seed, 0),
        )


@dataclass(frozen=True)
class Plateau:
    """How many pairs are enough, as far as the pairs at hand can tell.

    Attributes
    ----------
    n_enough
        The fewest pairs whose mean Spearman correlation with the other half is at least 95 % of
        that at the most pairs; None where only more than half of these do: the curve still rises.
    n_most
        The most pairs that could be compared with as many others: half of them.
    spearman, top_overlap
        Mean over halvings there.
    can_tell
        Whether there is a correlation to reach, and a size of at most half the most pairs that
        could have reached it; where not, a None above says nothing.
    """

    n_enough: int | None
    n_most: int
    spearman: float
    top_overlap: float
    can_tell: bool


def pair_stability(
    scores_pg: np.ndarray,
    input_p: np.ndarray,
    *,
    n_draws: int = 20,
    top_k: int = 30,
    seed: int = 0,
    absolute: bool = False,
) -> pd.DataFrame:
    """Compare samples of pairs with as many pairs as there are in the other half.

    Parameters
    ----------
    scores_pg
        (pairs, genes) score of each gene in each pair.
    input_p
        (pairs,) which input cell a pair is of; its pairs stay together.
    n_draws, seed
        Number of halvings and the seed of all.
    top_k
        How many best genes to compare.
    absolute
        Whether genes are ranked by the magnitude of their mean score.

    Returns
    -------
    DataFrame
        A row a halving and size: `n_pairs, draw, spearman` (of magnitudes if `absolute`),
        `top_overlap, n_genes`.

    Raises
    ------
    RankingError
        If there are fewer than two input cells, or no gene has a score.
    """
    _, unit_p = np.unique(input_p, return_inverse=True)
    n_units = int(unit_p.max(initial=-1)) + 1
    scored = (scores_pg != 0).any(axis=0)
    if n_units < 2 or not scored.any():
        raise RankingError(
            "pairs cannot be halved",
            expected="scores of two input cells",
            found=f"{n_units} input cells, {int(scored.sum())} genes with a score",
        )
    scores_pg = scores_pg[:, scored].astype(np.float64)
    rng = np.random.default_rng(seed)
    rows = []
    for draw in range(n_draws):
        place_u = rng.permutation(n_units)
        order = np.argsort(place_u[unit_p], kind="stable")
        in_first = place_u[unit_p[order]] < n_units // 2
        first, second_g = order[in_first], scores_pg[order[~in_first]].mean(axis=0)
        sum_g, done = np.zeros(scores_pg.shape[1]), 0
        for n in sizes(len(first)):
            sum_g += scores_pg[first[done:n]].sum(axis=0)
            done = n
            rows.append(
                {"n_pairs": n, "draw": draw} | _likeness(sum_g / n, second_g, top_k, absolute)
            )
    return pd.DataFrame(rows)


def sizes(most: int) -> list[int]:
    """10, 20, 50, 100, 200, … below `most`, and `most` itself."""
    ladder = [step * 10**power for power in range(1, 8) for step in (1, 2, 5)]
    return [n for n in ladder if n < most] + [most]


def plateau(table: pd.DataFrame) -> Plateau:
    """Where the curve of a `pair_stability` levels off.

    Halves of unequal input cells differ in size, so the most pairs are those that every halving
    has.
    """
    n_draws = table["draw"].nunique()
    last = table.loc[table.groupby("draw")["n_pairs"].idxmax()]
    means = table.groupby("n_pairs")["spearman"].agg(["mean", "size"])
    ladder = means[means["size"] == n_draws]["mean"]
    n_most, most = int(last["n_pairs"].median()), float(last["spearman"].mean())
    enough = [int(n) for n, value in ladder.items() if value >= REACHED * most]  # type: ignore[call-overload]
    n_enough = enough[0] if enough and enough[0] <= n_most / 2 and most > 0 else None
    can_tell = most > 0 and bool((ladder.index <= n_most / 2).any())
    return Plateau(n_enough, n_most, most, float(last["top_overlap"].mean()), can_tell)


def donor_stability(
    donors: DonorScores, top_k: int = 30, *, absolute: bool = False
) -> pd.DataFrame:
    """Leave each donor of input cells out and rank by the others.

    Returns
    -------
    DataFrame
        Two rows a donor, `against` "all" and "donor": `donor, against, n_pairs` (of the others),
        `spearman, top_overlap, n_genes`. Empty with fewer than two donors.
    """
    known = donors.frame.dropna(subset="score")
    scores_dg = known.pivot(index="donor", columns="gene", values="score")
    scores_dg = scores_dg.dropna(axis=1)
    scores_dg = scores_dg.loc[:, (scores_dg != 0).any(axis=0)]
    n_d = known.groupby("donor")["n_pairs"].max().reindex(scores_dg.index).to_numpy(float)
    values_dg = scores_dg.to_numpy()
    if len(n_d) < 2 or not scores_dg.shape[1]:
        return pd.DataFrame(columns=["donor", "against", "n_pairs", *_COMPARED])
    sum_g = n_d @ values_dg
    rows = []
    for i, donor in enumerate(scores_dg.index):
        others_g = (sum_g - n_d[i] * values_dg[i]) / (n_d.sum() - n_d[i])
        for against, other_g in (("all", sum_g / n_d.sum()), ("donor", values_dg[i])):
            row = {"donor": str(donor), "against": against, "n_pairs": int(n_d.sum() - n_d[i])}
            rows.append(row | _likeness(others_g, other_g, top_k, absolute))
    return pd.DataFrame(rows)


def table_stability(tables: Mapping[str, pd.DataFrame], top_k: int = 30) -> pd.DataFrame:
    """Compare gene tables two by two: of runs with other seeds, other baselines or other donors.

    Parameters
    ----------
    tables
        Name -> gene table (`genes.parquet`) of a run; `@category` rows and genes without a rank
        are left out, and genes are compared that both tables rank.
    top_k
        How many best genes to compare.

    Returns
    -------
    DataFrame
        One row a pair of tables: `first, second, spearman, top_overlap,
        sign_agreement` (among the genes in both lists of the best), `n_genes`.

    Raises
    ------
    RankingError
        If there are fewer than two tables, or two have no gene in common.
    """
    if len(tables) < 2:
        raise RankingError("stability needs two tables", found=str(len(tables)))
    ranked = {name: table[table["rank"].notna()] for name, table in tables.items()}
    names = list(ranked)
    rows = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            found = compare_genes(ranked[first], ranked[second], top_k)
            shared = found.overlap_at_k
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "spearman": found.spearman,
                    "top_overlap": shared,
                    "sign_agreement": found.sign_agreement,
                    "n_genes": found.n_genes,
                }
            )
    return pd.DataFrame(rows)


_COMPARED = ["spearman", "top_overlap", "n_genes"]


def _likeness(
    first_g: np.ndarray, second_g: np.ndarray, top_k: int, absolute: bool
) -> dict[str, float]:
    """The columns `_COMPARED` for two scores (genes,)."""
    found = asdict(similarity(first_g, second_g, top_k, absolute=absolute))
    if absolute:
        found["spearman"] = found["spearman_abs"]
    return {name: found[name] for name in _COMPARED}
