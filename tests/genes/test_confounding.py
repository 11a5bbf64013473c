"""Depth and batch against ordinary least squares of statsmodels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema
from gradgene.errors import RankingError
from gradgene.genes import (
    GeneSums,
    PairDesign,
    batch_share,
    depth_correlation,
    explained_share,
)
from gradgene.pairs import PairPlan

seeds = st.integers(0, 2**31 - 1)
#: Two donors in two batches, one of each in both; labels part two of the groups again.
GROUPS = pd.DataFrame(
    {
        "donor": ["a", "a", "a", "b", "b", None],
        "batch": ["1", "1", "2", "1", "2", "2"],
        "label": ["T", "B", "T", "B", "T", None],
    },
    dtype=object,
).where(lambda frame: frame.notna(), None)


def sums_of(
    score_pf: np.ndarray, depth_p: np.ndarray, group_p: np.ndarray, groups: pd.DataFrame = GROUPS
) -> GeneSums:
    """Sums of pairs that are all there."""
    member_gp = (np.arange(len(groups))[:, None] == group_p).astype(float)
    depth_p = depth_p - depth_p.mean()
    return GeneSums(
        sums={
            "forward": member_gp @ score_pf,
            "forward/square": member_gp @ score_pf**2,
            "forward/depth": member_gp @ (score_pf * depth_p[:, None]),
        },
        n_pairs_g=member_gp.sum(axis=1).astype(int),
        groups=groups,
        main="forward",
        depth_g=member_gp @ depth_p,
        depth_square_g=member_gp @ depth_p**2,
    )


def pairs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse scores that depend on batch and depth, more and more from gene to gene."""
    rng = np.random.default_rng(seed)
    group_p = rng.integers(0, len(GROUPS), n)
    depth_p = 6.0 + 0.3 * rng.normal(size=n) + 0.2 * (group_p % 2)
    effect = np.linspace(0, 2, 5)
    batch_p = rng.normal(size=5)[np.array([0, 0, 1, 2, 3, 4])[group_p]]
    score_pf = rng.normal(size=(n, 5)) + effect * (batch_p + depth_p)[:, None]
    return score_pf * (rng.uniform(size=(n, 5)) < 0.6), depth_p, group_p


def adjusted_r2(score_pf: np.ndarray, depth_p: np.ndarray, group_p: np.ndarray) -> list[float]:
    batches = [f"{row.donor} {row.batch}" for row in GROUPS.itertuples()]
    design = pd.get_dummies(pd.Series([batches[g] for g in group_p]), dtype=float)
    design["depth"] = depth_p
    return [float(sm.OLS(score_p, design).fit().rsquared_adj) for score_p in score_pf.T]


class TestBatchShare:
    @given(seeds, st.integers(20, 80))
    def test_is_the_adjusted_r2_beyond_that_of_depth(self, seed: int, n: int) -> None:
        score_pf, depth_p, group_p = pairs(seed, n)
        depth = sm.add_constant(depth_p)
        alone = [max(float(sm.OLS(y, depth).fit().rsquared_adj), 0.0) for y in score_pf.T]
        whole = np.maximum(adjusted_r2(score_pf, depth_p, group_p), 0.0)
        found = batch_share(sums_of(score_pf, depth_p, group_p))
        np.testing.assert_allclose(found, np.maximum(whole - alone, 0.0), atol=1e-10)

    def test_depth_is_no_batch(self) -> None:
        rng = np.random.default_rng(0)
        _, depth_p, group_p = pairs(0, 300)
        batch_p = np.array([3.0, 3.0, -1.0, 0.0, 7.0, 2.0])[group_p]
        scores = np.stack([depth_p, batch_p], axis=1) + 1e-3 * rng.normal(size=(300, 2))
        sums = sums_of(scores, depth_p, group_p)
        assert (explained_share(sums) > 0.99).all()
        of_depth, of_batch = batch_share(sums)
        assert of_depth < 0.01 and of_batch > 0.9

    def test_batches_of_both_cells_count(self) -> None:
        """A score h(input) - h(baseline) with h a matter of the batch alone, and one of chance."""
        rng = np.random.default_rng(1)
        batch_2p, h_b = rng.integers(3, size=(2, 400)), np.array([0.0, 1.0, 3.0])
        names = np.array([f"batch{b}" for b in range(3)], dtype=object)
        matrix = sparse.csr_matrix(np.ones((800, 2), dtype=np.float32))
        obs = pd.DataFrame({"disease": "case"}, index=[f"c{i}" for i in range(800)])
        schema = CellSchema(phenotypes=("disease",), values="lognorm")
        cells = Cells(matrix, obs, ("g0", "g1"), ("", ""), schema)
        table = pd.DataFrame(
            {
                "input_row": np.arange(400),
                "baseline_row": np.arange(400, 800),
                "donor_input": "a",
                "batch_input": names[batch_2p[0]],
                "batch_baseline": names[batch_2p[1]],
            }
        )
        design = PairDesign.of(PairPlan(table, pd.DataFrame()), cells, 0.5)
        scores = np.stack([h_b[batch_2p[0]] - h_b[batch_2p[1]], rng.normal(size=400)], axis=1)
        of_batch, of_chance = batch_share(
            sums_of(scores, design.depth_p, design.group_p, design.groups)
        )
        assert of_batch > 0.999 and of_chance < 0.1


class TestExplainedShare:
    @given(seeds, st.integers(20, 80))
    def test_is_the_adjusted_r2_of_least_squares(self, seed: int, n: int) -> None:
        made = pairs(seed, n)
        expected = np.maximum(adjusted_r2(*made), 0.0)
        np.testing.assert_allclose(explained_share(sums_of(*made)), expected, atol=1e-10)

    def test_of_scores_that_are_depth_or_batch(self) -> None:
        """Depth itself, a mean for each batch, and both: all; labels of cells are no batch."""
        _, depth_p, group_p = pairs(0, 60)
        batch_p = np.array([3.0, 3.0, -1.0, 0.0, 7.0, 2.0])[group_p]
        label_p = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])[group_p]
        scores = np.stack([depth_p, batch_p, 2 * depth_p - batch_p, label_p], axis=1)
        found = explained_share(sums_of(scores, depth_p, group_p))
        assert found[:3].tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-10)
        assert found[3] < 0.5

    def test_by_chance_is_none(self) -> None:
        """200 genes of noise: the plain R² would be 0.1 on average, the adjusted one is not."""
        rng = np.random.default_rng(1)
        _, depth_p, group_p = pairs(1, 50)
        found = explained_share(sums_of(rng.normal(size=(50, 200)), depth_p, group_p))
        assert (found >= 0).all() and (found == 0).any()
        assert found.mean() < 0.06

    def test_without_batches_is_that_of_depth_alone(self) -> None:
        score_pf, depth_p, _ = pairs(2, 30)
        groups = pd.DataFrame({"donor": [None], "batch": [None], "label": [None]}, dtype=object)
        sums = sums_of(score_pf, depth_p, np.zeros(30, dtype=int), groups)
        r = depth_correlation(sums)
        expected = np.maximum(1 - (1 - r**2) * 29 / 28, 0)
        np.testing.assert_allclose(explained_share(sums), expected, atol=1e-10)

    def test_depth_that_only_batches_differ_in_adds_nothing(self) -> None:
        score_pf, _, group_p = pairs(3, 40)
        depth_p = np.array([0.1, 0.1, 0.7, 0.3, 0.9, 1.1])[group_p]
        batches = pd.get_dummies(pd.Series(depth_p), dtype=float)
        expected = [max(sm.OLS(y, batches).fit().rsquared_adj, 0.0) for y in score_pf.T]
        found = explained_share(sums_of(score_pf, depth_p, group_p))
        np.testing.assert_allclose(found, expected, atol=1e-10)

    def test_is_unknown_with_as_many_coefficients_as_pairs(self) -> None:
        rng = np.random.default_rng(4)
        group_p = np.array([0, 2, 3, 4, 5, 5])
        sums = sums_of(rng.normal(size=(6, 3)), rng.normal(size=6), group_p)
        assert np.isnan(explained_share(sums)).all()

    def test_of_a_constant_is_unknown(self) -> None:
        """Also of a constant whose squares leave a rounding."""
        _, depth_p, group_p = pairs(5, 40)
        sums = sums_of(np.tile([0.1, 0.0], (40, 1)), depth_p, group_p)
        assert np.isnan(explained_share(sums)).all()
        assert np.isnan(depth_correlation(sums)).all()


class TestDepthCorrelation:
    @given(seeds, st.integers(5, 80))
    def test_is_numpys(self, seed: int, n: int) -> None:
        score_pf, depth_p, group_p = pairs(seed, n)
        score_pf[0] += 1.0  # never constant
        expected = [np.corrcoef(score_p, depth_p)[0, 1] for score_p in score_pf.T]
        found = depth_correlation(sums_of(score_pf, depth_p, group_p))
        np.testing.assert_allclose(found, expected, atol=1e-10)

    def test_of_equal_depths_is_unknown(self) -> None:
        score_pf, _, group_p = pairs(6, 40)
        assert np.isnan(depth_correlation(sums_of(score_pf, np.full(40, 0.1), group_p))).all()

    def test_of_one_label(self) -> None:
        """Sums of a part of the pairs are centred elsewhere; the correlation is of the part."""
        score_pf, depth_p, group_p = pairs(7, 80)
        part = sums_of(score_pf, depth_p, group_p).of_label("T")
        mine = np.isin(group_p, [0, 2, 4])
        expected = [np.corrcoef(score_p, depth_p[mine])[0, 1] for score_p in score_pf[mine].T]
        np.testing.assert_allclose(depth_correlation(part), expected, atol=1e-10)


def test_sums_without_depth_are_refused() -> None:
    sums = replace(sums_of(*pairs(8, 20)), depth_g=None)
    for of in (depth_correlation, explained_share):
        with pytest.raises(RankingError, match="without the depth"):
            of(sums)
