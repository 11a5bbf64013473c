"""Intervals and tests over donors against scipy and statsmodels, and their coverage."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from gradgene.genes import benjamini_hochberg, donor_interval, mean_interval, null_p

seeds = st.integers(0, 2**31 - 1)


class TestInterval:
    @given(seeds, st.integers(3, 12), st.sampled_from([0.8, 0.95, 0.99]))
    def test_equals_scipys(self, seed: int, n: int, level: float) -> None:
        means_dg = np.random.default_rng(seed).normal(0.5, 2.0, (n, 6))
        found = donor_interval(means_dg, level)
        test = stats.ttest_1samp(means_dg, 0.0)
        low, high = test.confidence_interval(level)
        np.testing.assert_allclose(found.low, low, rtol=1e-10)
        np.testing.assert_allclose(found.high, high, rtol=1e-10)
        np.testing.assert_allclose(found.p, test.pvalue, rtol=1e-8)
        np.testing.assert_allclose(found.se, stats.sem(means_dg), rtol=1e-12)

    def test_by_hand(self) -> None:
        """1, 2, 3: mean 2, se 1/√3, and t(0.975, 2) = 4.3027."""
        found = donor_interval(np.array([[1.0], [2.0], [3.0]]))
        assert found.se[0] == pytest.approx(3**-0.5)
        assert found.low[0] == pytest.approx(2 - 4.302653 * 3**-0.5, abs=1e-6)
        assert found.high[0] == pytest.approx(2 + 4.302653 * 3**-0.5, abs=1e-6)

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_fewer_than_three_donors_say_nothing(self, n: int) -> None:
        found = donor_interval(np.ones((n, 4)))
        for values in (found.se, found.low, found.high, found.p):
            assert values.shape == (4,)
            assert np.isnan(values).all()

    def test_a_gene_without_spread_has_no_p(self) -> None:
        found = donor_interval(np.array([[0.0, 5.0, 1.0]] * 2 + [[0.0, 5.0, 2.0]]))
        assert np.isnan(found.p[:2]).all()
        assert np.isfinite(found.p[2])
        assert (found.low[1], found.high[1]) == (5.0, 5.0)

    def test_rounding_is_no_spread(self) -> None:
        """Three times 0.1 has a mean a little off, and so a standard error of 1e-17."""
        found = donor_interval(np.full((3, 1), 0.1) * np.array([[1.0], [1.0], [1.0 + 2e-16]]))
        assert np.isnan(found.p[0])
        assert found.low[0] == pytest.approx(0.1) and found.high[0] == pytest.approx(0.1)

    @pytest.mark.parametrize("n", [3, 4, 8])
    @pytest.mark.parametrize("kind", ["gaussian", "zero_inflated"])
    def test_p_is_uniform_where_nothing_is(self, n: int, kind: str) -> None:
        """20,000 genes of 60 cells a donor; donors differ more than their cells make them.

        Most cells of a zero-inflated gene have exactly no score, as scores of real genes do. The
        test is exact for Gaussian donors; means of many zeros with few values in between are not
        quite, and then it is on the safe side.
        """
        rng = np.random.default_rng(n)
        cells = rng.normal(0, 1, (n, 20_000, 60))
        cells += rng.normal(0, 0.5, (n, 20_000, 1))
        if kind == "zero_inflated":
            cells *= rng.uniform(size=cells.shape) < 0.1
        p = donor_interval(cells.mean(axis=2)).p
        share = (p < 0.05).mean()
        if kind == "gaussian":
            assert stats.kstest(p, "uniform").pvalue > 0.001
            assert share == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 20_000) ** 0.5)
        else:
            assert 0.03 <= share <= 0.056

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        """20,000 experiments of five donors with pairs of unequal noise within donors."""
        rng = np.random.default_rng(0)
        donors = rng.normal(0.3, 1.0, (5, 20_000)) + rng.normal(0, 0.5, (5, 20_000))
        found = donor_interval(donors)
        covered = ((found.low <= 0.3) & (found.high >= 0.3)).mean()
        assert 0.93 <= covered <= 0.97
        null = donor_interval(donors - 0.3)
        assert 0.03 <= (null.p < 0.05).mean() <= 0.07


class TestAgainstExchangedLabels:
    def test_by_hand(self) -> None:
        """Draws -1, 0, 1 and a score of 4: z = 4 / √(4/3) with 2 degrees of freedom."""
        found = null_p(np.array([4.0]), np.array([[-1.0], [0.0], [1.0]]))
        assert found[0] == pytest.approx(2 * stats.t.sf(4 / (4 / 3) ** 0.5, 2))

    @given(seeds, st.integers(2, 30))
    def test_is_the_test_of_one_more_draw(self, seed: int, n: int) -> None:
        """A t-test with equal variances of one value against n."""
        rng = np.random.default_rng(seed)
        score, null = rng.normal(1.0, 1.0, 6), rng.normal(0.3, 1.0, (n, 6))
        expected = stats.ttest_ind(score[None], null, axis=0).pvalue
        np.testing.assert_allclose(null_p(score, null), expected, rtol=1e-8)

    @pytest.mark.parametrize("n_inputs", [12, 100])
    @pytest.mark.parametrize("kind", ["gaussian", "zero_inflated"])
    def test_p_is_uniform_where_labels_do_not_matter(self, n_inputs: int, kind: str) -> None:
        """5,000 genes whose pairs would as well have come the other way round, 100 draws.

        Where only three or four input cells have a score, few signs are possible and none of them
        lies far out: the test is then on the safe side.
        """
        rng = np.random.default_rng(n_inputs)
        scores = rng.normal(0, 1, (n_inputs, 5000))
        if kind == "zero_inflated":
            scores *= rng.uniform(size=scores.shape) < 0.3
        signs = rng.choice([-1.0, 1.0], (100, n_inputs))
        p = null_p(scores.mean(axis=0), signs @ scores / n_inputs)
        few = kind == "zero_inflated" and n_inputs == 12
        known = p[np.isfinite(p)]
        assert (0.0 if few else 0.035) <= (known < 0.05).mean() <= 0.065
        if not few:
            assert abs(known.mean() - 0.5) < 0.04

    def test_few_draws_tell_small_p(self) -> None:
        null = np.random.default_rng(0).normal(0, 1, (100, 1))
        assert null_p(np.array([9.0]), null)[0] < 1e-10

    def test_draws_that_do_not_differ_tell_nothing(self) -> None:
        """Also where the mean of equal draws is not one of them to the last bit."""
        null = np.full((3, 2), 0.1)
        assert np.isnan(null_p(np.array([0.1, 5.0]), null)).all()
        assert np.isnan(null_p(np.array([0.1]), np.zeros((1, 1)))).all()
        assert np.isnan(null_p(np.array([0.1]), np.zeros((0, 1)))).all()


class TestBenjaminiHochberg:
    @given(seeds, st.integers(1, 60))
    def test_equals_statsmodels(self, seed: int, n: int) -> None:
        p = np.random.default_rng(seed).beta(0.5, 2.0, n)
        expected = multipletests(p, method="fdr_bh")[1]
        np.testing.assert_allclose(benjamini_hochberg(p), expected, rtol=1e-12)

    def test_by_hand(self) -> None:
        """Sorted 0.01, 0.02, 0.9 become 0.03, 0.03, 0.9."""
        found = benjamini_hochberg(np.array([0.9, 0.01, 0.02]))
        assert found.tolist() == pytest.approx([0.9, 0.03, 0.03])

    @given(seeds)
    def test_unknown_p_stay_unknown_and_are_not_counted(self, seed: int) -> None:
        p = np.random.default_rng(seed).uniform(size=20)
        with_gaps = p.copy()
        with_gaps[::3] = np.nan
        known = np.isfinite(with_gaps)
        found = benjamini_hochberg(with_gaps)
        assert np.isnan(found[~known]).all()
        np.testing.assert_allclose(found[known], multipletests(p[known], method="fdr_bh")[1])

    def test_nothing_known(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()
            assert benjamini_hochberg(np.array([])).shape == (0,)


def test_the_mean_of_replicates() -> None:
    low, high = mean_interval(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert np.isnan(mean_interval(np.array([1.0, 2.0, np.nan]))).all()
