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

from gradgene.cells import Cells
from gradgene.errors import ConfigError, LabelError, PairError
from gradgene.pairs import PairSampler
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


@pytest.fixture(params=["csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to write a list of pairs."""
    return tmp_path / f"pairs.{request.param}"


def write(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)


def sampler_of(file: Path) -> PairSampler:
    return PairSampler("disease", "case", "control", ("sex",), file=str(file), max_pairs=1)


def test_pairs_of_a_file_come_exactly_and_in_order(file: Path) -> None:
    cells = make_cells()
    inputs, baselines = ["cell9", "cell3", "cell9"], ["cell1", "cell8", "cell1"]
    write(pd.DataFrame({"note": 1, "baseline": baselines, "input": inputs}), file)
    plan = sampler_of(file).sample(cells)
    assert list(plan.table["input"]) == inputs
    assert list(plan.table["baseline"]) == baselines
    assert list(plan.table["input_row"]) == [9, 3, 9]
    assert list(plan.table["baseline_row"]) == [1, 8, 1]
    assert list(plan.table["donor_input"]) == list(cells.obs["donor"].iloc[[9, 3, 9]])
    assert plan.n_skipped == 0


def test_numbers_can_be_cell_names(tmp_path: Path) -> None:
    cells = relabelled(12)
    cells = replace(cells, obs=cells.obs.set_axis([f"{i:03d}" for i in range(12)]))
    write(pd.DataFrame({"input": ["007"], "baseline": ["010"]}), tmp_path / "pairs.csv")
    assert sampler_of(tmp_path / "pairs.csv").sample(cells).table["input_row"].tolist() == [7]


def test_unknown_cells_in_a_file(file: Path) -> None:
    write(pd.DataFrame({"input": ["cell1", "cel2"], "baseline": ["cell3", "nobody"]}), file)
    with pytest.raises(PairError, match="2 cell names are not among the cells: 'cel2'") as error:
        sampler_of(file).sample(make_cells())
    assert str(file) in str(error.value)


def test_files_that_hold_no_pairs(file: Path) -> None:
    with pytest.raises(PairError, match=r"pairs\.file: no such file"):
        sampler_of(file).sample(make_cells())
    write(pd.DataFrame({"input": ["cell1"], "control": ["cell2"]}), file)
    with pytest.raises(PairError, match=r"lacks the column 'baseline'.*found input, control"):
        sampler_of(file).sample(make_cells())
    write(pd.DataFrame({"input": [], "baseline": []}), file)
    with pytest.raises(PairError, match="no matched pair"):
        sampler_of(file).sample(make_cells())
    file.write_text("")
    with pytest.raises(PairError, match="cannot be read as a table"):
        sampler_of(file).sample(make_cells())
