"""Groups, input cells and depths of pairs, by hand and on sampled pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from gradgene.cells import Cells, CellSchema, log_normalise
from gradgene.errors import RankingError
from gradgene.genes import PairDesign, null_p
from gradgene.pairs import EmptyBaseline, MeanBaseline, PairPlan, PairSampler
from tests.planted import make_cells

SKIPPED = pd.DataFrame({"stratum": [], "n_cells": [], "reason": []})


def cells_of(values: list[list[float]], **obs: list[Any]) -> Cells:
    matrix = sparse.csr_matrix(np.asarray(values, dtype=np.float32))
    n, g = matrix.shape
    return Cells(
        matrix_ng=matrix,
        obs=pd.DataFrame({"disease": ["case"] * n, **obs}, index=[f"c{i}" for i in range(n)]),
        genes=tuple(f"g{i}" for i in range(g)),
        ensembl_ids=("",) * g,
        schema=CellSchema(phenotypes=("disease",), values="lognorm"),
    )


def plan_of(inputs: list[int], baselines: list[int], **columns: list[str | None]) -> PairPlan:
    table = pd.DataFrame({"input_row": inputs, "baseline_row": baselines, **columns})
    return PairPlan(table, SKIPPED)


CELLS = cells_of(
    [[1, 1, 1, 0.4], [0.5, 0, 0, 0], [0, 0, 0, 0], [1, 0, 2, 0]],
    cell_type=["T", "B", np.nan, "T"],
)


class TestByHand:
    def test_groups(self) -> None:
        """In order of donor, batch and label, unknown ones first."""
        plan = plan_of(
            [0, 1, 0, 2, 3],
            [3, 3, 1, 1, 1],
            donor_input=["b", "a", "b", "a", None],
            batch_input=["1", "2", "1", "1", "1"],
        )
        design = PairDesign.of(plan, CELLS, 0.5, by="cell_type")
        assert design.groups.to_numpy().tolist() == [
            [None, "1", "T"],
            ["a", "1", None],
            ["a", "2", "B"],
            ["b", "1", "T"],
        ]
        assert design.group_p.tolist() == [3, 2, 3, 1, 0]
        assert design.input_p.tolist() == [0, 1, 0, 2, 3]
        assert len(design) == 5

    def test_both_batches_where_they_differ(self) -> None:
        batches = {"batch_input": ["1", "1", None, "2"], "batch_baseline": ["1", "2", "1", None]}
        plan = plan_of([0, 1, 2, 3], [3, 3, 1, 1], donor_input=["a"] * 4, **batches)
        swaps = PairDesign.of(plan, CELLS, 0.5)
        assert swaps.groups["batch"].tolist() == [None, "1", "1 against 2", "2"]
        assert swaps.group_p.tolist() == [1, 2, 0, 3]
        alone = PairDesign.of(plan, CELLS, 0.5, swaps=False)
        assert alone.groups["batch"].tolist() == [None, "1", "2"]

    def test_without_labels_batches_and_donors(self) -> None:
        for columns in ({"donor_input": [None, None]}, {"donor_input": ["", ""]}):
            design = PairDesign.of(plan_of([3, 1], [0, 0], **columns), CELLS, 0.5)
            assert design.groups.to_numpy().tolist() == [[None, None, None]]
            assert design.group_p.tolist() == [0, 0]
            assert design.input_p.tolist() == [1, 0]

    def test_depth_of_both_cells_where_the_baseline_swaps(self) -> None:
        plan = plan_of([0, 1, 2], [3, 0, 1], donor_input=["a"] * 3)
        depth_n = np.log([4.0, 2.0, 1.0, 3.0])
        found = PairDesign.of(plan, CELLS, 0.5)
        expected = depth_n[[0, 1, 2]] - depth_n[[3, 0, 1]]
        np.testing.assert_allclose(found.depth_p, expected, atol=1e-15)

    def test_depth_of_the_input_where_it_does_not(self) -> None:
        plan = plan_of([0, 1, 2], [3, 0, 1], donor_input=["a"] * 3)
        found = PairDesign.of(plan, CELLS, 0.5, swaps=EmptyBaseline.swaps)
        np.testing.assert_allclose(found.depth_p, np.log([4.0, 2.0, 1.0]), atol=1e-15)


def test_of_sampled_pairs_equals_a_loop() -> None:
    cells = log_normalise(make_cells(80))
    plan = PairSampler("disease", "case", "control", ("sex",), per_cell=2).sample(cells)
    design = PairDesign.of(plan, cells, 1.0, by="cell_type")
    expressed = (cells.matrix_ng.toarray() >= 1.0).sum(axis=1)
    for p, row in enumerate(plan.table.to_dict("records")):
        group = design.groups.iloc[design.group_p[p]]
        assert group["donor"] == row["donor_input"]
        assert group["label"] == cells.obs["cell_type"].iloc[row["input_row"]]
        depths = [np.log1p(expressed[row[c]]) for c in ("input_row", "baseline_row")]
        assert design.depth_p[p] == pytest.approx(depths[0] - depths[1])
    alike = plan.input_rows[:, None] == plan.input_rows
    assert ((design.input_p[:, None] == design.input_p) == alike).all()
    assert design.input_p.max() + 1 == len(np.unique(plan.input_rows))
    assert not design.groups.duplicated().any()


def test_averaged_baselines_have_the_depth_of_their_mean() -> None:
    cells = log_normalise(make_cells(40))
    plan = PairSampler("disease", "case", "control", ("sex",)).sample(cells)
    cells, plan = MeanBaseline().arrange(cells, plan)
    design = PairDesign.of(plan, cells, 1.0, by="sex")
    shown = (cells.matrix_ng.toarray() >= 1.0).sum(axis=1)
    expected = np.log1p(shown[plan.input_rows]) - np.log1p(shown[plan.baseline_rows])
    np.testing.assert_allclose(design.depth_p, expected)
    assert set(design.groups["label"]) == {"female", "male"}


class TestSharing:
    def test_by_hand(self) -> None:
        """Inputs in 2 and 1 pairs, a control in all three: (4 + 1 + 9) / (4 + 1 + 3)."""
        plan = plan_of([0, 0, 1], [3, 3, 3], donor_input=["a"] * 3)
        assert PairDesign.of(plan, CELLS, 0.5).sharing == 14 / 8
        apart = plan_of([0, 1], [2, 3], donor_input=["a"] * 2)
        assert PairDesign.of(apart, CELLS, 0.5).sharing == 1.0

    def test_of_a_mean_of_many_cells_counts_less(self) -> None:
        """Three inputs against the mean of four cells: (3 + 9/4) / (3 + 3/4)."""
        plan = PairPlan(
            plan_of([0, 1, 2], [3, 3, 3], donor_input=["a"] * 3).table,
            SKIPPED,
            averaged={3: np.arange(4)},
        )
        assert PairDesign.of(plan, CELLS, 0.5).sharing == pytest.approx(5.25 / 3.75)

    @pytest.mark.parametrize(
        ("n_controls", "per_cell", "residual", "averaged"),
        [(300, 1, 0, 1), (40, 1, 0, 1), (20, 3, 0, 1), (40, 1, 1, 1), (1, 1, 0, 50)],
    )
    def test_makes_p_null_keep_its_word(
        self, n_controls: int, per_cell: int, residual: float, averaged: int
    ) -> None:
        """4,000 genes where labels do not matter, and controls that many inputs share.

        Without widening, 7 % to 45 % of p fall below 0.05 in these designs.
        """
        rng = np.random.default_rng(0)
        n, g = 100, 4000
        inputs = np.repeat(np.arange(n), per_cell)
        drawn = [rng.choice(n_controls, per_cell, replace=False) for _ in range(n)]
        controls = np.concatenate(drawn)
        plan = PairPlan(
            pd.DataFrame({"input_row": inputs, "baseline_row": n + controls}),
            SKIPPED,
            averaged={n + b: np.arange(averaged) for b in range(n_controls)},
        )
        cells = cells_of([[1.0]] * (n + n_controls))
        sharing = PairDesign.of(plan, cells, 0.5).sharing
        scores = rng.normal(size=(n, g))[inputs]
        scores -= (rng.normal(size=(n_controls, g)) / averaged**0.5)[controls]
        scores += residual * rng.normal(size=scores.shape)
        signs = rng.choice([-1.0, 1.0], (100, n))[:, inputs]
        null = signs @ scores / len(scores)
        shares = [(null_p(scores.mean(axis=0), null * w) < 0.05).mean() for w in (1, sharing**0.5)]
        assert shares[0] > 0.06 and 0.01 < shares[1] < 0.06


def test_a_category_that_is_not_there_is_refused() -> None:
    plan = plan_of([0], [1], donor_input=["a"])
    with pytest.raises(RankingError, match=r"ranking.by: no category 'cell_typ'.*'cell_type'"):
        PairDesign.of(plan, CELLS, 0.5, by="cell_typ")


def test_parts_that_do_not_fit_are_refused() -> None:
    groups = pd.DataFrame({"donor": ["a"], "batch": [None], "label": [None]})
    one, zero = np.ones(1), np.zeros(1, dtype=np.int64)
    PairDesign(groups, zero, zero, one)
    with pytest.raises(RankingError, match="expected donor, batch, label; found donor"):
        PairDesign(groups[["donor"]], zero, zero, one)
    with pytest.raises(RankingError, match="differ in number"):
        PairDesign(groups, zero, zero, np.ones(2))
    for bad in (np.array([1]), np.array([-1])):
        with pytest.raises(RankingError, match="of no group"):
            PairDesign(groups, bad, zero, one)
    with pytest.raises(RankingError, match="of no input cell"):
        PairDesign(groups, zero, np.array([-1]), one)


@pytest.mark.parametrize(
    ("inputs", "baselines", "exchangeable", "crossed"),
    [
        (["a", "b"], ["b", "a"], True, True),
        (["a", "b"], ["a", "c"], False, True),  # b has no baseline cell
        (["a", "b"], ["x", "y"], False, True),
        ([None, None], [None, None], True, False),
    ],
)
def test_labels_are_exchangeable_where_donors_have_both(
    inputs: list[str | None], baselines: list[str | None], exchangeable: bool, crossed: bool
) -> None:
    plan = plan_of([0, 1], [2, 3], donor_input=inputs, donor_baseline=baselines)
    design = PairDesign.of(plan, CELLS, 0.5)
    assert design.exchangeable == exchangeable
    assert (design.crossing is not None) == crossed
