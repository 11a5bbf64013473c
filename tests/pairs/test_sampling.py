"""Every pair is matched, donors weigh the same, and what is left out is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradgene.cells import Cells, log_normalise
from gradgene.errors import ConfigError, LabelError, PairError
from gradgene.pairs import BASELINES, PairSampler
from tests.planted import make_cells

MATCH_ON = ("cell_type", "sex")


def relabelled(n: int = 400, **columns: Any) -> Cells:
    """`make_cells` with some obs columns replaced."""
    cells = make_cells(n=n, n_genes=10)
    return replace(cells, obs=cells.obs.assign(**columns))


def one_big_donor(n: int = 1000) -> Cells:
    """Donor d0 has 90 % of the cells, d1 and d2 have 5 % each."""
    donors = np.random.default_rng(0).permutation(["d0"] * 900 + ["d1"] * 50 + ["d2"] * 50)
    return relabelled(n, donor=donors)


@given(
    seed=st.integers(0, 1000),
    match_on=st.sampled_from([(), ("cell_type",), MATCH_ON]),
    per_cell=st.integers(1, 3),
    max_pairs=st.none() | st.integers(1, 40),
)
def test_every_pair_is_matched(
    seed: int, match_on: tuple[str, ...], per_cell: int, max_pairs: int | None
) -> None:
    cells = make_cells(n=60, n_genes=10, seed=seed)
    sampler = PairSampler("disease", "case", "control", match_on, per_cell, max_pairs, seed=seed)
    plan = sampler.sample(cells)
    obs, table = cells.obs, plan.table
    inputs, baselines = obs.iloc[table["input_row"]], obs.iloc[table["baseline_row"]]
    assert (inputs["disease"] == "case").all()
    assert (baselines["disease"] == "control").all()
    for column in match_on:
        assert list(inputs[column]) == list(baselines[column])
    assert list(table["input"]) == list(inputs.index)
    assert list(table["baseline"]) == list(baselines.index)
    assert list(table["donor_input"]) == list(inputs["donor"])
    assert list(table["donor_baseline"]) == list(baselines["donor"])
    assert list(table["pair"]) == list(range(len(plan)))
    if match_on:
        expected = [" | ".join(labels) for labels in inputs[list(match_on)].to_numpy()]
        assert list(table["stratum"]) == expected
    uses = table["input_row"].value_counts()
    n_matched = (obs["disease"] == "case").sum() - plan.n_skipped
    expected_pairs = n_matched * per_cell
    assert len(plan) == (expected_pairs if max_pairs is None else min(max_pairs, expected_pairs))
    assert uses.max() <= per_cell  # no input cell is drawn twice
    assert (uses < per_cell).sum() <= 1  # only the last one may be cut by max_pairs


def test_baselines_of_a_cell_differ_while_there_are_enough() -> None:
    sampler = PairSampler("disease", "case", "control", ("cell_type",), per_cell=5)
    table = sampler.sample(relabelled()).table
    assert not table.duplicated(["input_row", "baseline_row"]).any()


def test_no_pair_is_drawn_twice() -> None:
    disease = ["control"] * 2 + ["case"] * 58
    table = (
        PairSampler("disease", "case", "control", per_cell=5)
        .sample(relabelled(60, disease=disease))
        .table
    )
    uses = table.groupby("input_row")["baseline_row"].value_counts()
    assert set(uses) == {1}
    assert (table["input_row"].value_counts() == 2).all()  # all there are, though five were asked


def test_donors_weigh_the_same() -> None:
    """Of 60 inputs about 20 come from each donor, and of their baselines as well."""
    cells = one_big_donor()
    plan = PairSampler("disease", "case", "control", max_pairs=60, seed=1).sample(cells)
    for column in ("donor_input", "donor_baseline"):
        share = plan.table[column].value_counts(normalize=True)
        assert share["d0"] < 0.55
        assert share.min() > 0.15
    assert plan.table["input_row"].is_unique


def test_donors_are_drawn_uniformly() -> None:
    """The first draw of 600 seeds, of donors with 90, 5 and 5 % of the cells: chi-square."""
    donors = np.random.default_rng(0).permutation(["d0"] * 90 + ["d1"] * 5 + ["d2"] * 5)
    cells = relabelled(100, donor=donors, disease=np.resize(["case", "control"], 100))
    sampler = PairSampler("disease", "case", "control", max_pairs=1)
    tables = [replace(sampler, seed=seed).sample(cells).table for seed in range(600)]
    for column in ("donor_input", "donor_baseline"):
        counts = pd.Series([table[column].item() for table in tables]).value_counts()
        # Cells drawn alike would give 540, 30, 30.
        assert len(counts) == 3 and stats.chisquare(counts).pvalue > 0.001


def test_cells_of_a_donor_are_drawn_uniformly() -> None:
    cells = relabelled(20, donor=["d0"] * 20, disease=["case"] * 10 + ["control"] * 10)
    sampler = PairSampler("disease", "case", "control", max_pairs=1)
    tables = [replace(sampler, seed=seed).sample(cells).table for seed in range(600)]
    for column in ("input_row", "baseline_row"):
        counts = pd.Series([table[column].item() for table in tables]).value_counts()
        assert len(counts) == 10 and stats.chisquare(counts).pvalue > 0.001


def test_every_cell_gets_its_turn() -> None:
    """Within a donor cells are drawn uniformly: 40 seeds of 30 among some 450 reach most."""
    cells = one_big_donor()
    seen: set[int] = set()
    for seed in range(40):
        sampler = PairSampler("disease", "case", "control", max_pairs=30, seed=seed)
        seen |= set(sampler.sample(cells).table["input_row"])
    assert len(seen) > 250


def test_without_donors_cells_are_drawn_uniformly() -> None:
    cells = make_cells(n=60, n_genes=10, donor=False)
    plan = PairSampler("disease", "case", "control").sample(cells)
    assert plan.table["donor_input"].isna().all()
    assert (
        sorted(plan.table["input_row"]) == np.flatnonzero(cells.obs["disease"] == "case").tolist()
    )


def test_seeded() -> None:
    cells = make_cells()
    sampler = PairSampler("disease", "case", "control", ("cell_type",), max_pairs=10, seed=3)
    pd.testing.assert_frame_equal(sampler.sample(cells).table, sampler.sample(cells).table)
    assert not sampler.sample(cells).table.equals(replace(sampler, seed=4).sample(cells).table)


def test_strata_without_a_baseline_are_counted() -> None:
    kinds = ["T cell"] * 6 + ["B cell"] * 3 + ["NK cell"] * 2 + ["T cell"]
    disease = ["case"] * 6 + ["case"] * 3 + ["case"] * 2 + ["control"]
    plan = PairSampler("disease", "case", "control", ("cell_type",)).sample(
        relabelled(12, cell_type=kinds, disease=disease)
    )
    assert plan.skipped.to_dict("list") == {
        "stratum": ["B cell", "NK cell"],
        "n_cells": [3, 2],
        "reason": ["no 'control' cell in 'B cell'", "no 'control' cell in 'NK cell'"],
    }
    assert plan.n_skipped == 5
    assert sorted(plan.table["input_row"]) == list(range(6))
    assert set(plan.table["baseline_row"]) == {11}


def test_missing_labels_match_nothing() -> None:
    kinds = ["T cell", np.nan, "T cell", np.nan]
    cells = relabelled(4, cell_type=kinds, disease=["case", "case", "control", "control"])
    plan = PairSampler("disease", "case", "control", ("cell_type",)).sample(cells)
    assert plan.table[["input_row", "baseline_row"]].to_numpy().tolist() == [[0, 2]]
    assert plan.n_skipped == 1 and "missing" in plan.skipped["reason"].item()


def test_no_pair_is_an_error_with_the_reasons() -> None:
    cells = relabelled(4, cell_type=["A", "A", "B", "B"], disease=["case"] * 2 + ["control"] * 2)
    sampler = PairSampler("disease", "case", "control", ("cell_type",))
    with pytest.raises(PairError, match=r"study\.match_on: no matched pair.*'control' cell in 'A'"):
        sampler.sample(cells)


@pytest.mark.parametrize(("wrong", "where"), [("input", "study.input"), ("baseline", "study.base")])
def test_unknown_label(wrong: str, where: str) -> None:
    labels = {"input": "case", "baseline": "control"} | {wrong: "cases"}
    with pytest.raises(LabelError, match=f"{where}.*'cases' in column 'disease'.*'case' \\(30\\)"):
        PairSampler("disease", labels["input"], labels["baseline"]).sample(make_cells())


def test_impossible_requests() -> None:
    with pytest.raises(ConfigError, match=r"study\.match_on: the target 'disease'"):
        PairSampler("disease", "case", "control", ("sex", "disease"))
    with pytest.raises(ConfigError, match=r"study\.baseline: .*same label 'case'"):
        PairSampler("disease", "case", "case")
    with pytest.raises(ConfigError, match="per_cell=0"):
        PairSampler("disease", "case", "control", per_cell=0)
    with pytest.raises(ConfigError, match="max_pairs=0"):
        PairSampler("disease", "case", "control", max_pairs=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"matching": "nearst"}, r"pairs\.matching: unknown kind 'nearst'.*nearest"),
        ({"donors": "own"}, r"pairs\.donors: unknown kind 'own'.*same"),
        ({"n_components": 0}, r"pairs\.n_components: is too small.*found 0"),
        ({"permute_labels": -1}, r"pairs\.permute_labels: is too small.*found -1"),
    ],
)
def test_impossible_matching(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PairSampler("disease", "case", "control", **wrong)


@pytest.mark.parametrize("matching", ["random", "nearest"])
@pytest.mark.parametrize("donors", ["any", "same"])
@pytest.mark.parametrize("permute", [None, 3])
@pytest.mark.parametrize("strategy", sorted(BASELINES))
def test_every_strategy_arranges_every_kind_of_matching(
    matching: Any, donors: Any, permute: int | None, strategy: str
) -> None:
    cells = log_normalise(make_cells(n=80, n_genes=12, seed=2))
    sampler = PairSampler(
        "disease", "case", "control", ("sex",), 2, matching=matching, donors=donors,
        permute_labels=permute, n_components=5,
    )  # fmt: skip
    plan = sampler.sample(cells)
    pd.testing.assert_frame_equal(plan.table, sampler.sample(cells).table)
    assert plan.table["distance"].notna().all() == (matching == "nearest")
    arranged, found = BASELINES[strategy]().arrange(cells, plan)
    assert set(found.table["input"]) == set(plan.table["input"])
    own = arranged.obs.iloc[found.input_rows], arranged.obs.iloc[found.baseline_rows]
    assert list(own[0]["sex"]) == list(own[1]["sex"])
    if donors == "same":
        assert list(own[0]["donor"]) == list(own[1]["donor"])
        assert (found.table["donor_input"] == found.table["donor_baseline"]).all()
        assert found.same_donor
    if permute is None:
        assert set(own[0]["disease"]) == {"case"} and set(own[1]["disease"]) == {"control"}


def test_only_nearest_controls_have_a_distance(tmp_path: Path) -> None:
    cells = log_normalise(make_cells(n=40, n_genes=12))
    sampler = PairSampler("disease", "case", "control", ("sex",), matching="nearest")
    _, averaged = BASELINES["mean"]().arrange(cells, sampler.sample(cells))
    assert averaged.table["distance"].isna().all()
    file = tmp_path / "pairs.csv"
    sampler.sample(cells).table[["input", "baseline"]].to_csv(file, index=False)
    assert replace(sampler, file=str(file)).sample(cells).table["distance"].isna().all()
