"""Agreement of rankings on small cases with known answers, and their consensus."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradgene.errors import RankingError
from gradgene.evaluation.agreement import (
    consensus,
    correlations,
    disputed,
    rank_correlation,
    robust_rank,
    similarity,
)

UP = np.array([5.0, 4.0, 3.0, 2.0, 1.0, -6.0])
LISTS = st.lists(st.integers(-3, 3), min_size=3, max_size=12)


def long(**scores: list[float]) -> pd.DataFrame:
    """Rankings of genes a, b, c … in rows."""
    return pd.concat(
        [
            pd.DataFrame({"ranking": name, "gene": list("abcdefghij"[: len(s)]), "score": s})
            for name, s in scores.items()
        ]
    )


def test_identical_and_reversed() -> None:
    same = similarity(UP, 10 * UP + 3, top_k=2)
    assert (same.spearman, same.top_overlap, same.n_genes) == (1, 1, 6)
    turned = similarity(UP, -UP, top_k=2)
    assert (turned.spearman, turned.spearman_abs, turned.top_overlap) == (-1, 1, 0)


def test_overlap_of_the_best() -> None:
    found = similarity(UP, np.array([5.0, 0.0, 4.0, 3.0, -1.0, -2.0]), top_k=3)
    assert found.top_overlap == pytest.approx(2 / 3)  # genes 0 and 2
    by_size = similarity(UP, UP[::-1].copy(), top_k=1, absolute=True)
    assert by_size.top_overlap == 0  # gene 5 against gene 0
    assert similarity(UP, UP, top_k=100).top_overlap == 1


@given(LISTS, st.randoms(use_true_random=False))
def test_rank_correlation_is_that_of_scipy(values: list[int], chance: object) -> None:
    a = np.array(values, dtype=float)
    b = a.copy()
    chance.shuffle(b)  # type: ignore[attr-defined]
    if np.ptp(a) == 0:
        assert np.isnan(rank_correlation(a, b))
    else:
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


def test_partial_correlation_is_that_of_what_the_third_leaves() -> None:
    rng = np.random.default_rng(0)
    c = rng.random(200)
    a, b = c + rng.random(200), c + rng.random(200)
    ranks = [stats.rankdata(x) for x in (a, b, c)]
    left = []
    for y in ranks[:2]:
        slope, at_0 = np.polyfit(ranks[2], y, 1)
        left.append(y - at_0 - slope * ranks[2])
    assert rank_correlation(a, b, c) == pytest.approx(np.corrcoef(*left)[0, 1])
    assert abs(rank_correlation(a, b, c)) < 0.15 < 0.4 < rank_correlation(a, b)
    assert np.isnan(rank_correlation(c, b, c))  # nothing of the first is left
    assert rank_correlation(a, b, np.ones(200)) == rank_correlation(a, b)


def test_scores_that_cannot_be_compared() -> None:
    for bad in (np.array([1.0]), np.array([np.nan] * 6)):
        with pytest.raises(RankingError, match="cannot be compared"):
            similarity(UP, bad)


def test_matrix_of_all_rankings() -> None:
    rankings = long(one=[3, 2, 1, 0], two=[1, 2, 3, 0], three=[30, 20, 10, 0])
    table = correlations(rankings, top_k=1)
    wide = table.pivot(index="first", columns="second", values="spearman")
    assert list(table["first"].unique()) == ["one", "two", "three"]
    assert np.diag(wide).tolist() == [1, 1, 1]
    assert wide["two"]["one"] == wide["one"]["two"] == -1
    assert wide.loc["one", "three"] == 1
    assert set(table["n_genes"]) == {3}  # the last gene was in no pair
    overlap = table.pivot(index="first", columns="second", values="top_overlap")
    assert (overlap.loc["one", "three"], overlap.loc["one", "two"]) == (1, 0)


def test_rankings_of_other_genes_are_refused() -> None:
    with pytest.raises(RankingError, match="same genes"):
        correlations(long(one=[1, 2], two=[1, 2, 3]))


def test_mean_rank() -> None:
    found = consensus(long(one=[3, 2, 1], two=[3, 1, 2], three=[1, 3, 2]), ["one", "two"], 1)
    assert found["gene"].tolist() == ["a", "b", "c"]
    assert found["mean_rank"].tolist() == [1, 2.5, 2.5]
    assert found["n_methods_in_top"].tolist() == [2, 0, 0]
    assert found["spread"].tolist() == pytest.approx([0, 0.5**0.5, 0.5**0.5])
    assert found["rank/two"].tolist() == [1, 3, 2]
    assert found["rank"].tolist() == [1, 2, 3]
    tied = consensus(long(one=[1, 1, 0.5], two=[3, 2, 1]), ["one", "two"])
    assert tied.set_index("gene")["rank/one"].tolist() == [1.5, 1.5, 3]


def test_robust_rank_of_known_cases() -> None:
    # One ranking: the rank itself. Two: P(min ≤ r) = 1 - (1 - r)² and P(max ≤ r) = r².
    assert robust_rank(np.array([[0.3]])) == pytest.approx([0.3])
    assert robust_rank(np.array([[0.1, 0.1], [0.1, 1.0], [1.0, 1.0]])) == pytest.approx(
        [0.01, 1 - 0.9**2, 1]
    )
    three = robust_rank(np.array([[0.2, 0.9, 0.2]]))
    assert three == pytest.approx([3 * 0.2**2 - 2 * 0.2**3])  # P(at least two of three ≤ 0.2)


def test_robust_rank_forgives_one_ranking_and_the_mean_does_not() -> None:
    n = 100
    scores = {name: [float(n - i) for i in range(n)] for name in "wxyz"}
    scores["z"] = [-1.0, *scores["z"][1:]]  # gene 0 is the last of one ranking
    frames = [
        pd.DataFrame({"ranking": k, "gene": [f"{i:03}" for i in range(n)], "score": v})
        for k, v in scores.items()
    ]
    found = consensus(pd.concat(frames), list("wxyz")).set_index("gene")
    assert found["rank"]["000"] > 20
    assert (found["rra_rho"] < found.loc["000", "rra_rho"]).sum() <= 3


def test_corrected_p_of_chance_is_no_smaller_than_it_says() -> None:
    ranks = np.random.default_rng(0).random((4000, 5))
    p = np.minimum(1, 5 * robust_rank(ranks))
    assert (p <= 0.05).mean() <= 0.055
    assert (robust_rank(ranks) <= 0.05).mean() > 0.1  # which is why it is corrected


def test_disputed_genes_are_good_for_some_and_bad_for_others() -> None:
    rankings = long(one=[5, 4, 3, 2, 1], two=[5, 0.5, 3, 2, 1], three=[5, 4, 3, 2, 6])
    found = consensus(rankings, ["one", "two", "three"], top_k=2)
    assert disputed(found)["gene"].tolist() == ["e", "b", "c"]
    assert disputed(found, 1)["gene"].tolist() == ["e"]


def test_a_consensus_of_one() -> None:
    for names in (["one"], ["one", "none"]):
        with pytest.raises(RankingError, match="needs two"):
            consensus(long(one=[1, 2]), names)
