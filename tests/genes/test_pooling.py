"""Donors of several runs are replicates of one table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes.pooling import DonorScores, pool_donors

CONTROLS = frozenset({"x", "y", "z"})


def run(
    scores: dict[str, dict[str, float]], controls: frozenset[str] = CONTROLS, what: str = "a"
) -> DonorScores:
    """A run that held out the donors of `scores` (donor -> gene -> score)."""
    rows = [(d, g, 5, s) for d, genes in scores.items() for g, s in genes.items()]
    return DonorScores(
        pd.DataFrame(rows, columns=["donor", "gene", "n_pairs", "score"]), controls, what
    )


def test_donors_of_all_runs_make_one_t_interval() -> None:
    runs = [run({"d1": {"A": 1.0, "B": 0.0}, "d2": {"A": 2.0, "B": 0.5}})]
    runs += [run({"d3": {"A": 4.0, "B": -0.5}})]
    table = pool_donors(runs).set_index("gene")
    expected = stats.ttest_1samp([1.0, 2.0, 4.0], 0)
    low, high = expected.confidence_interval()
    assert list(table.index) == ["A", "B"] and list(table["rank"]) == [1, 2]
    assert table.loc["A", "score"] == pytest.approx(7 / 3)
    assert table.loc["A", "p"] == pytest.approx(expected.pvalue)
    assert (table.loc["A", "ci_low"], table.loc["A", "ci_high"]) == pytest.approx((low, high))
    assert table.loc["A", "p_adjusted"] == pytest.approx(2 * expected.pvalue)
    assert list(table["n_donors"]) == [3, 3] and list(table["n_runs"]) == [2, 2]


def test_seeds_of_one_split_are_no_replicates() -> None:
    first = {f"d{i}": {"A": float(i)} for i in range(4)}
    second = {f"d{i}": {"A": i + 1.0} for i in range(4)}
    once = pool_donors([run({f"d{i}": {"A": i + 0.5} for i in range(4)})])
    both = pool_donors([run(first), run(second)])
    pd.testing.assert_frame_equal(both.drop(columns="n_runs"), once.drop(columns="n_runs"))
    assert list(both["n_runs"]) == [2]


def test_a_gene_that_a_model_does_not_know_is_unknown_there_and_not_zero() -> None:
    runs = [run({f"d{i}": {"A": 1.0, "B": 2.0 + i} for i in range(3)})]
    runs += [run({"d3": {"A": 2.0}})]
    table = pool_donors(runs).set_index("gene")
    assert dict(table["n_donors"]) == {"B": 3, "A": 4}
    assert table.loc["B", "score"] == pytest.approx(3.0)
    assert table.loc["A", "score"] == pytest.approx(1.25)
    assert np.isfinite(table["ci_low"]).all()


@pytest.mark.parametrize(
    ("donors", "controls"), [(2, CONTROLS), (5, frozenset({"x", "y"})), (5, frozenset())]
)
def test_three_donors_on_each_side(donors: int, controls: frozenset[str]) -> None:
    scores = {f"d{i}": {"A": float(i)} for i in range(donors)}
    table = pool_donors([run(scores, controls)])
    assert table[["se", "ci_low", "ci_high", "p", "p_adjusted"]].isna().all(axis=None)
    assert table["score"].notna().all()


def test_different_scores_are_refused() -> None:
    scores = {"d1": {"A": 1.0}}
    with pytest.raises(RankingError, match="one kind"):
        pool_donors([run(scores), run(scores, what="b")])
    with pytest.raises(RankingError, match="lack score"):
        DonorScores(pd.DataFrame({"donor": [], "gene": [], "n_pairs": []}), CONTROLS, "a")
    twice = pd.concat([run(scores).frame] * 2)
    with pytest.raises(RankingError, match="two scores"):
        DonorScores(twice, CONTROLS, "a")
