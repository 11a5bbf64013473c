"""Pairs of cells drawn whatever their labels."""

from __future__ import annotations

import numpy as np
import pytest

from gradgene.errors import LabelError, PairError
from gradgene.pairs import PairPlan, blind_pairs
from tests.planted import make_cells

LABELS = ("case", "control")


def drawn(n: int = 40, match_on: tuple[str, ...] = ("cell_type",), seed: int = 0) -> PairPlan:
    return blind_pairs(make_cells(200), "disease", LABELS, match_on, n, seed)


def test_both_labels_in_both_places() -> None:
    """First cells half and half; of the four combinations each is there."""
    labels_n = make_cells(200).obs["disease"].to_numpy()
    plan = drawn()
    first, second = labels_n[plan.input_rows], labels_n[plan.baseline_rows]
    assert len(plan) == 40
    assert [*first] == ["case"] * 20 + ["control"] * 20
    assert len({*zip(first, second, strict=True)}) == 4


def test_one_stratum_and_two_cells() -> None:
    types_n = make_cells(200).obs["cell_type"].to_numpy()
    plan = drawn()
    assert (types_n[plan.input_rows] == types_n[plan.baseline_rows]).all()
    assert (plan.input_rows != plan.baseline_rows).all()
    assert len({*plan.input_rows.tolist()}) == len(plan)
    assert set(plan.table["stratum"]) == {"B cell", "NK cell", "T cell"}
    free = drawn(match_on=())
    assert (types_n[free.input_rows] != types_n[free.baseline_rows]).any()


def test_donors_in_turn() -> None:
    """Of eight first cells of four donors each donor has one a label."""
    donors = drawn(8).table["donor_input"].to_numpy()
    assert sorted(donors[:4]) == sorted(donors[4:]) == ["d0", "d1", "d2", "d3"]


def test_the_seed_decides() -> None:
    assert drawn().table.equals(drawn().table)
    assert not drawn().table.equals(drawn(seed=1).table)


def test_no_more_than_there_are() -> None:
    cells = make_cells(12)
    plan = blind_pairs(cells, "disease", LABELS, (), 100, 0)
    assert sorted(plan.input_rows) == [*range(12)]


def test_a_label_that_its_stratum_lacks() -> None:
    """Then the second cell is of the only label there is."""
    cells = make_cells(60)
    labels_n = cells.obs["disease"].to_numpy()
    cells.obs["cell_type"] = np.where(labels_n == "case", "B cell", "T cell")
    plan = blind_pairs(cells, "disease", LABELS, ("cell_type",), 20, 0)
    assert (labels_n[plan.input_rows] == labels_n[plan.baseline_rows]).all()


def test_refuses_cells_without_partners() -> None:
    cells = make_cells(3)
    cells.obs["cell_type"] = ["a", "b", "c"]
    with pytest.raises(PairError):
        blind_pairs(cells, "disease", LABELS, ("cell_type",), 5, 0)
    with pytest.raises(LabelError):
        blind_pairs(cells, "disease", ("case", "nobody"), (), 5, 0)
