"""The plan as a table: parts of it, counts by stratum, donors of either side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import Cells, log_normalise
from gradgene.errors import PairError
from gradgene.pairs import MeanBaseline, PairPlan, PairSampler
from gradgene.pairs.plan import no_skipped
from tests.planted import make_cells

#: (disease, cell type, donor, lane) of each cell.
ROWS = [
    ("case", "T", "a", "l1"),
    ("case", "T", "b", "l2"),
    ("case", "T", "b", None),
    ("case", "B", "c", "l1"),
    ("case", "K", "c", "l1"),
    ("case", "K", "d", "l1"),
    ("control", "T", "a", "l1"),
    ("control", "T", "e", "l1"),
    ("control", "T", "f", "l2"),
    ("control", "B", "f", "l2"),
]


def cells_of(donor: bool = True, batch: bool = True) -> Cells:
    """Prepared cells of `ROWS`."""
    cells = log_normalise(make_cells(n=len(ROWS), n_genes=12, donor=donor))
    obs = pd.DataFrame(ROWS, columns=["disease", "cell_type", "donor", "lane"])
    obs = obs.fillna(np.nan).set_axis([f"c{i}" for i in range(len(ROWS))])
    schema = replace(
        cells.schema, phenotypes=("disease", "cell_type"), batch="lane" if batch else None
    )
    return replace(cells, obs=obs, schema=schema)


def plan_of(cells: Cells, **more: Any) -> PairPlan:
    return PairSampler("disease", "case", "control", ("cell_type",), **more).sample(cells)


def test_strata_by_hand() -> None:
    strata = plan_of(cells_of(), per_cell=9).strata()
    assert strata.to_dict("records") == [
        {
            "stratum": "B", "n_pairs": 1, "n_inputs": 1, "n_baselines": 1, "n_controls": 1,
            "n_donors_input": 1, "n_donors_baseline": 1, "n_skipped": 0, "reason": None,
        },
        {
            "stratum": "K", "n_pairs": 0, "n_inputs": 0, "n_baselines": 0, "n_controls": 0,
            "n_donors_input": 0, "n_donors_baseline": 0, "n_skipped": 2,
            "reason": "no 'control' cell in 'K'",
        },
        {
            "stratum": "T", "n_pairs": 9, "n_inputs": 3, "n_baselines": 3, "n_controls": 3,
            "n_donors_input": 2, "n_donors_baseline": 3, "n_skipped": 0, "reason": None,
        },
    ]  # fmt: skip


def test_strata_that_are_skipped_in_part() -> None:
    strata = plan_of(cells_of(), donors="same").strata().set_index("stratum")
    assert [*strata.loc["T", ["n_pairs", "n_controls", "n_skipped"]]] == [1, 3, 2]
    assert strata.loc["T", "reason"] == "no 'control' cell of the same donor in 'T'"
    assert [*strata.loc["B", ["n_pairs", "n_controls", "n_skipped"]]] == [0, 1, 1]


def test_several_reasons_are_joined() -> None:
    plan = plan_of(cells_of())
    twice = pd.DataFrame({"stratum": ["T", "T"], "n_cells": [1, 2], "reason": ["one", "two"]})
    row = replace(plan, skipped=twice).strata().set_index("stratum").loc["T"]
    assert (row["n_skipped"], row["reason"]) == (3, "one; two")


def test_donors_of_the_baselines() -> None:
    cells = cells_of()
    assert plan_of(cells, per_cell=9).n_donors_baseline == 3
    assert plan_of(cells_of(donor=False)).n_donors_baseline == 0
    assert plan_of(cells_of(donor=False)).strata()["n_donors_baseline"].tolist() == [0, 0, 0]


def test_donors_behind_averaged_baselines() -> None:
    cells = cells_of()
    averaged, plan = MeanBaseline().arrange(cells, plan_of(cells))
    assert plan.table["donor_baseline"].isna().sum() == 3  # the mean of donors a, e and f
    assert plan.n_donors_baseline == 3
    strata = plan.strata().set_index("stratum")
    assert strata["n_donors_baseline"].to_dict() == {"B": 1, "K": 0, "T": 3}
    assert strata["n_baselines"].to_dict() == {"B": 1, "K": 0, "T": 3}
    assert plan.take(np.flatnonzero(plan.table["stratum"] == "B")).n_donors_baseline == 1
    lanes = averaged.obs["lane"].iloc[len(cells) :].tolist()
    assert lanes[0] == "l2" and pd.isna(lanes[1]), "a batch of several is none"
    _, alone = MeanBaseline().arrange(cells_of(donor=False), plan_of(cells_of(donor=False)))
    assert alone.n_donors_baseline == 0


def test_means_of_one_donor() -> None:
    cells = cells_of()
    averaged, plan = MeanBaseline().arrange(cells, plan_of(cells, donors="same"))
    assert plan.table[["input", "baseline", "donor_baseline"]].to_numpy().tolist() == [
        ["c0", "mean of 1 control cells (T | a)", "a"]
    ]
    assert plan.control_rows.tolist() == [6]
    row = averaged.matrix_ng[plan.baseline_rows[0]].toarray()
    np.testing.assert_allclose(row, cells.matrix_ng[6].toarray(), rtol=1e-6)


def test_batch_of_the_input() -> None:
    table = plan_of(cells_of()).table.set_index("input")
    assert table.loc[["c0", "c1", "c2", "c3"], "batch_input"].tolist() == ["l1", "l2", None, "l1"]
    assert plan_of(cells_of(batch=False)).table["batch_input"].tolist() == [None] * 4
    cells = cells_of()
    _, averaged = MeanBaseline().arrange(cells, plan_of(cells))
    assert (
        averaged.table.set_index("input")["batch_input"].to_dict() == table["batch_input"].to_dict()
    )


@given(st.integers(0, 1000), st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True))
def test_a_part_of_a_plan(seed: int, rows: list[int]) -> None:
    plan = PairSampler("disease", "case", "control", max_pairs=12, seed=seed).sample(make_cells())
    part = plan.take(np.array(rows))
    assert part.table["pair"].tolist() == list(range(len(rows)))
    rest = part.table.drop(columns="pair")
    pd.testing.assert_frame_equal(
        rest, plan.table.drop(columns="pair").iloc[rows].reset_index(drop=True)
    )
    assert part.n_skipped == 0 and part.controls is plan.controls
    assert plan.table["pair"].tolist() == list(range(12))


def test_parts_by_a_mask_and_of_averaged_baselines() -> None:
    cells = cells_of()
    _, plan = MeanBaseline().arrange(cells, plan_of(cells))
    part = plan.take((plan.table["stratum"] == "T").to_numpy())
    assert part.control_rows.tolist() == [6, 7, 8]
    assert plan.n_skipped == 2 and part.n_skipped == 0


def test_a_plan_has_a_pair() -> None:
    plan = plan_of(cells_of())
    with pytest.raises(PairError, match="no matched pair"):
        plan.take(np.array([], dtype=np.int64))
    with pytest.raises(PairError, match="no input cell"):
        PairPlan(plan.table.iloc[:0], no_skipped())
    assert no_skipped().dtypes.to_dict() == {"stratum": object, "n_cells": int, "reason": object}
