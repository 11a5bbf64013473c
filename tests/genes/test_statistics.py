"""Intervals and tests over donors against scipy and statsmodels, and their coverage."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from gradgene.genes import benjamini_hochberg, donor_interval

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

    def test_covers_the_truth_as_often_as_it_says(self) -> None:
        """20,000 experiments of five donors with pairs of unequal noise within donors."""
        rng = np.random.default_rng(0)
        donors = rng.normal(0.3, 1.0, (5, 20_000)) + rng.normal(0, 0.5, (5, 20_000))
        found = donor_interval(donors)
        covered = ((found.low <= 0.3) & (found.high >= 0.3)).mean()
        assert 0.93 <= covered <= 0.97
        null = donor_interval(donors - 0.3)
        assert 0.03 <= (null.p < 0.05).mean() <= 0.07


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
