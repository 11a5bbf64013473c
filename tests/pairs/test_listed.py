"""Pairs of a file come exactly as they are listed, or are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradgene.errors import ConfigError, PairError
from gradgene.pairs import PairSampler
from tests.planted import make_cells


@pytest.fixture(params=["csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to write a list of pairs."""
    return tmp_path / f"pairs.{request.param}"


def write(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)


def sampler_of(file: Path, **more: Any) -> PairSampler:
    return PairSampler("disease", "case", "control", ("sex",), file=str(file), max_pairs=1, **more)


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
    cells = make_cells(12)
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
    with pytest.raises(PairError, match=r"lacks the column 'baseline'.*found 'input', 'control'"):
        sampler_of(file).sample(make_cells())
    write(pd.DataFrame({"input": [], "baseline": []}), file)
    with pytest.raises(PairError, match="no matched pair"):
        sampler_of(file).sample(make_cells())
    file.write_text("")
    with pytest.raises(PairError, match="cannot be read as a table"):
        sampler_of(file).sample(make_cells())


def test_names_that_several_cells_have(file: Path) -> None:
    cells = make_cells(4)
    cells = replace(cells, obs=cells.obs.set_axis(["a", "b", "b", "c"]))
    write(pd.DataFrame({"input": ["a"], "baseline": ["c"]}), file)
    with pytest.raises(PairError, match="more than once"):
        sampler_of(file).sample(cells)


def test_pairs_of_a_file_are_of_one_donor_if_asked(file: Path) -> None:
    cells = make_cells(4)
    cells = replace(cells, obs=cells.obs.assign(donor=["a", "a", "b", np.nan]))
    same = {"input": ["cell0"], "baseline": ["cell1"]}
    write(pd.DataFrame(same), file)
    assert sampler_of(file, donors="same").sample(cells).same_donor
    for other, found in (("cell2", "found a and b"), ("cell3", "found a and no donor")):
        write(pd.DataFrame({"input": ["cell0", "cell0"], "baseline": ["cell1", other]}), file)
        assert len(sampler_of(file).sample(cells)) == 2
        with pytest.raises(PairError, match=f"'cell0' and '{other}' are not.*same donor.*{found}"):
            sampler_of(file, donors="same").sample(cells)


def test_labels_of_listed_pairs_cannot_be_permuted(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"pairs\.permute_labels: pairs of a file"):
        sampler_of(file, permute_labels=1)
    alone = PairSampler("disease", "case", "control", permute_labels=1)
    assert alone.for_training().permute_labels == 1
