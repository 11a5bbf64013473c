"""Donors of several runs are replicates of one table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes import GeneSums
from gradgene.genes.crossing import Crossing
from gradgene.genes.pooling import COLUMNS, DonorScores, pool_donors
from gradgene.genes.statistics import crossed_interval
from tests.genes.test_crossing import sums_of as crossed_sums


def run(
    scores: dict[str, dict[str, float]], baselines: str = "same", score_key: str = "a"
) -> DonorScores:
    """A run that held out the donors of `scores` (donor -> gene -> score).

    Baseline cells are of the "same" donor as the input cell, have no part ("none"), or are all of
    donors named: every input donor against each of them equally often, with the same score.
    """
    genes = sorted({g for values in scores.values() for g in values})
    rows = []
    for d, values in scores.items():
        crossed = (0.0, 0.0, 0.0, 0.0)
        for g, s in values.items():
            if baselines == "same":
                crossed = (s, 1.0, s, 1.0)
            rows.append((d, g, 5, s, *crossed))
    for b in baselines.split() if baselines not in ("same", "none") else ():
        n = len(baselines.split())
        for g in genes:
            total = sum(values[g] for values in scores.values())
            rows.append((b, g, 0, np.nan, total / n, len(scores) / n, 0.0, 0.0))
    return DonorScores(pd.DataFrame(rows, columns=[*COLUMNS]), score_key)


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


def test_baselines_that_have_no_part_are_not_asked_for() -> None:
    scores = {f"d{i}": {"A": float(i), "B": 1.0 - i} for i in range(3)}
    same, none = (pool_donors([run(scores, kind)]) for kind in ("same", "none"))
    pd.testing.assert_frame_equal(same, none)


def test_donors_of_baseline_cells_are_drawn_too() -> None:
    """Pairs of every input donor with every baseline donor: Welch's interval."""
    rng = np.random.default_rng(0)
    effect = dict(zip("abcdxyz", rng.normal(size=7), strict=True))
    mean_x = np.mean([effect[b] for b in "xyz"])
    frame = [(d, "A", 3, effect[d] - mean_x, 0.0, 0.0, 0.0, 0.0) for d in "abcd"]
    for b in "xyz":
        total = sum(effect[d] - effect[b] for d in "abcd") / 3
        frame.append((b, "A", 0, np.nan, total, 4 / 3, 0.0, 0.0))
    (found,) = pool_donors([DonorScores(pd.DataFrame(frame, columns=[*COLUMNS]), "a")]).itertuples()
    sides = [[effect[d] for d in side] for side in ("abcd", "xyz")]
    expected = stats.ttest_ind(*sides, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue) and found.n_donors == 4
    assert found.ci_low == pytest.approx(expected.confidence_interval().low)


@pytest.mark.parametrize(("donors", "baselines"), [(2, "same"), (2, "none"), (5, "x y")])
def test_three_donors_on_each_side(donors: int, baselines: str) -> None:
    scores = {f"d{i}": {"A": float(i)} for i in range(donors)}
    table = pool_donors([run(scores, baselines)])
    assert table[["se", "ci_low", "ci_high", "p", "p_adjusted"]].isna().all(axis=None)
    assert table["score"].notna().all() and list(table["gene"]) == ["A"]


def test_different_scores_are_refused() -> None:
    scores = {"d1": {"A": 1.0}}
    with pytest.raises(RankingError, match="one kind"):
        pool_donors([run(scores), run(scores, score_key="b")])
    with pytest.raises(RankingError, match="lack score"):
        DonorScores(pd.DataFrame({"donor": [], "gene": [], "n_pairs": []}), "a")
    twice = pd.concat([run(scores).frame] * 2)
    with pytest.raises(RankingError, match="two scores"):
        DonorScores(twice, "a")


def test_sums_of_a_run_as_scores_of_its_donors() -> None:
    groups = pd.DataFrame({"donor": ["a", "b", "c"], "batch": None, "label": None})
    inputs = np.array(list("aabbcc"), dtype=object)
    baselines = np.array(list("axbxyz"), dtype=object)
    crossing = Crossing.of(inputs, baselines)
    scores_pf = np.random.default_rng(1).normal(size=(6, 3))
    crossed = crossed_sums(crossing, scores_pf)
    totals = np.stack([scores_pf[inputs == d].sum(axis=0) for d in "abc"])
    sums = GeneSums({"forward": totals}, np.array([2, 2, 2]), groups, "forward", crossed=crossed)
    found = DonorScores.of(sums, ["A", "B"], "a")
    assert sorted(set(found.frame["donor"])) == list("abcxyz")
    expected = crossed_interval(crossed)
    table = pool_donors([found]).set_index("gene").loc[["A", "B"]]
    np.testing.assert_allclose(table["ci_low"], expected.low[:2])
    np.testing.assert_allclose(table["p"], expected.p[:2])
    with pytest.raises(RankingError, match="no donor"):
        DonorScores.of(replace(sums, groups=groups.assign(donor=None)), ["A"], "a")
