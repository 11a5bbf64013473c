"""Who may be paired with whom, and why some find nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import Cells
from gradgene.errors import ConfigError, PairError
from gradgene.pairs import PairSampler
from gradgene.pairs.matching import find_matches, group
from tests.planted import make_cells

#: (disease, cell type, donor) of each cell.
ROWS = [
    ("case", "T", "a"),
    ("case", "T", "b"),
    ("case", "T", "c"),
    ("case", "B", "a"),
    ("case", "K", "a"),
    ("case", None, "a"),
    ("case", "T", None),
    ("control", "T", "a"),
    ("control", "T", "a"),
    ("control", "T", "b"),
    ("control", "B", "b"),
    ("control", None, "a"),
    ("control", "T", None),
]


def cells_of(rows: list[tuple[str, str | None, str | None]] = ROWS, **more: Any) -> Cells:
    """Cells of these labels; their expression does not matter."""
    labels = np.array(rows, dtype=object).T
    names = dict(zip(("disease", "cell_type", "donor"), labels, strict=True))
    obs = pd.DataFrame(names, index=[f"c{i}" for i in range(len(rows))]).fillna(np.nan)
    return replace(make_cells(n=len(rows), n_genes=12), obs=obs, **more)


def sampler(**more: Any) -> PairSampler:
    return PairSampler("disease", "case", "control", ("cell_type",), 9, **more)


def test_same_donor_by_hand() -> None:
    plan = sampler(donors="same").sample(cells_of())
    pairs = plan.table[["input_row", "baseline_row"]].to_numpy().tolist()
    assert sorted(pairs) == [[0, 7], [0, 8], [1, 9]]
    assert plan.same_donor
    assert plan.skipped.to_dict("records") == [
        {"stratum": "B", "n_cells": 1, "reason": "no 'control' cell of the same donor in 'B'"},
        {"stratum": "K", "n_cells": 1, "reason": "no 'control' cell in 'K'"},
        {"stratum": "T", "n_cells": 1, "reason": "no 'control' cell of the same donor in 'T'"},
        {"stratum": "T", "n_cells": 1, "reason": "the donor is missing"},
        {
            "stratum": "a label to match on is missing",
            "n_cells": 1,
            "reason": "a label to match on is missing",
        },
    ]
    assert {s: rows.tolist() for s, rows in plan.controls.items()} == {
        "B": [10],
        "T": [7, 8, 9, 12],
    }


def test_any_donor_by_hand() -> None:
    plan = sampler().sample(cells_of())
    pairs = plan.table[["input_row", "baseline_row"]].to_numpy().tolist()
    wanted = [[i, b] for i in (0, 1, 2, 6) for b in (7, 8, 9, 12)] + [[3, 10]]
    assert sorted(pairs) == sorted(wanted)
    assert not plan.same_donor
    assert dict(zip(plan.skipped["stratum"], plan.skipped["n_cells"], strict=True)) == {
        "K": 1,
        "a label to match on is missing": 1,
    }


@given(seed=st.integers(0, 1000), per_cell=st.integers(1, 3), nearest=st.booleans())
def test_same_donor_equals_a_loop(seed: int, per_cell: int, nearest: bool) -> None:
    cells = make_cells(n=40, n_genes=12, seed=seed)
    chosen = PairSampler(
        "disease", "case", "control", ("cell_type",), per_cell, seed=seed, donors="same",
        matching="nearest" if nearest else "random",
    )  # fmt: skip
    plan = chosen.sample(cells)
    obs = cells.obs.reset_index(drop=True)
    keys = ["cell_type", "donor"]
    n_skipped = 0
    for row in np.flatnonzero(obs["disease"] == "case"):
        can = obs[(obs["disease"] == "control") & (obs[keys] == obs.loc[row, keys]).all(axis=1)]
        found = plan.table.loc[plan.table["input_row"] == row, "baseline_row"]
        assert len(found) == found.nunique() == min(per_cell, len(can))
        assert set(found) <= set(can.index)
        n_skipped += can.empty
    assert plan.n_skipped == n_skipped


def test_same_donor_needs_donors() -> None:
    with pytest.raises(ConfigError, match=r"pairs\.donors: .*no donors.*study\.donor"):
        sampler(donors="same").sample(make_cells(donor=False))


def test_no_donor_has_both_sides() -> None:
    cells = cells_of([("case", "T", "a"), ("control", "T", "b")])
    with pytest.raises(PairError, match=r"of the same donor in 'T'.*donors=any"):
        sampler(donors="same").sample(cells)


def test_cells_with_the_same_controls_share_one_array() -> None:
    strata, donors = np.array(["s"] * 4, dtype=object), np.array(["a", "b", "a", "b"], dtype=object)
    found = find_matches(
        np.array([0, 1]), np.array([2, 3]), strata, donors,
        baseline="control", same_donor=False, can_draw_n=np.ones(4, dtype=np.bool_),
    )  # fmt: skip
    assert found.inputs.tolist() == [0, 1] and found.skipped.empty
    assert found.partners[0] is found.partners[1] and found.partners[0].tolist() == [2, 3]


def test_groups_are_in_order_of_name() -> None:
    keys = np.array(["b", "a", "b", "c"], dtype=object)
    found = group(np.array([3, 2, 0]), keys)
    assert {k: rows.tolist() for k, rows in found.items()} == {"b": [2, 0], "c": [3]}
    assert list(found) == ["b", "c"]
