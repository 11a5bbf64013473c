"""Permuted labels: what is exchanged, what stays, and that no real contrast is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import Cells
from gradgene.errors import PairError
from gradgene.pairs import PairSampler
from gradgene.pairs.permuting import has_both, permuted_labels
from tests.planted import make_cells

PAIR = ("case", "control")


@given(st.integers(0, 10_000), st.integers(1, 80))
def test_counts_of_a_donor_stay_and_others_are_left_alone(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array(["case", "control", "other", np.nan], dtype=object), n)
    donors = rng.choice(np.array(["a", "b", ""], dtype=object), n)
    before = labels.copy()
    permuted = permuted_labels(labels, PAIR, donors, seed)
    assert np.array_equal(labels.astype(str), before.astype(str)), "the argument was changed"
    for donor in set(donors):
        mine = donors == donor
        first, second = (
            pd.Series(x[mine].astype(str)).value_counts().sort_index() for x in (labels, permuted)
        )
        pd.testing.assert_series_equal(first, second)
    rest = ~np.isin(labels.astype(str), PAIR)
    assert np.array_equal(labels[rest].astype(str), permuted[rest].astype(str))


def test_seeded_and_uniform() -> None:
    """One case among four cells: its label is with each of them a quarter of the time."""
    labels = np.array(["case", "control", "control", "control"], dtype=object)
    donors = np.full(4, "a", dtype=object)
    draws = [permuted_labels(labels, PAIR, donors, seed) for seed in range(400)]
    again = permuted_labels(labels, PAIR, donors, 7)
    assert again.tolist() == draws[7].tolist()
    counts = np.bincount([int(np.flatnonzero(d == "case")[0]) for d in draws], minlength=4)
    assert counts.sum() == 400 and counts.min() > 70 and counts.max() < 130


def test_has_both() -> None:
    labels = np.array(["case", "control", "case", "other", "other"], dtype=object)
    donors = np.array(["a", "a", "b", "b", "a"], dtype=object)
    assert has_both(labels, PAIR, donors).tolist() == [True, True, False, False, True]


def toy(rows: list[tuple[str, str]]) -> Cells:
    """Cells of (disease, donor)."""
    obs = pd.DataFrame(
        rows, columns=["disease", "donor"], index=[f"c{i}" for i in range(len(rows))]
    )
    return replace(make_cells(n=len(rows), n_genes=12), obs=obs)


def test_pairs_are_drawn_by_permuted_labels() -> None:
    cells = toy([("case", "a")] * 30 + [("control", "a")] * 30 + [("other", "a")] * 30)
    sampler = PairSampler("disease", "case", "control", permute_labels=5)
    plan = sampler.sample(cells)
    permuted = permuted_labels(
        cells.obs["disease"].to_numpy(), PAIR, np.full(90, "a", dtype=object), 5
    )
    assert sorted(plan.input_rows) == np.flatnonzero(permuted == "case").tolist()
    assert plan.controls["all cells"].tolist() == np.flatnonzero(permuted == "control").tolist()
    assert (permuted[plan.baseline_rows] == "control").all()
    true = cells.obs["disease"].to_numpy()[plan.input_rows]
    assert 5 < (true == "case").sum() < 25  # of 30: half of the true labels on either side
    other = replace(sampler, permute_labels=6).sample(cells)
    assert sorted(other.input_rows) != sorted(plan.input_rows)
    training = sampler.for_training().sample(cells)
    assert sorted(training.input_rows) == sorted(plan.input_rows)


def test_donors_of_one_label_are_skipped() -> None:
    rows = [("case", "a")] * 3 + [("control", "a")] * 3 + [("case", "b")] * 2 + [("control", "c")]
    plan = PairSampler("disease", "case", "control", permute_labels=0).sample(toy(rows))
    assert set(plan.table["donor_input"]) == set(plan.table["donor_baseline"]) == {"a"}
    assert plan.controls["all cells"].size == 3
    assert plan.skipped.to_dict("records") == [
        {
            "stratum": "all cells",
            "n_cells": 2,
            "reason": "its donor has no cell of the other label to exchange labels with",
        }
    ]


def test_nothing_to_permute() -> None:
    cells = toy([("case", "a")] * 3 + [("control", "b")] * 3)
    with pytest.raises(PairError, match=r"pairs\.permute_labels: no donor has cells of both"):
        PairSampler("disease", "case", "control", permute_labels=0).sample(cells)


def test_without_donors_all_cells_exchange_labels() -> None:
    cells = make_cells(n=60, n_genes=12, donor=False)
    plan = PairSampler("disease", "case", "control", permute_labels=0).sample(cells)
    true = cells.obs["disease"].to_numpy()[plan.input_rows]
    assert len(plan) == 30 and 5 < (true == "case").sum() < 25
