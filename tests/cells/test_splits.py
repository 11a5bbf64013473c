"""No donor on both sides; validation balanced; every draw from the seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import Cells, Split, split_cells
from gradgene.errors import CellsError, LabelError
from tests.planted import make_cells


def donors(cells: Cells, rows: np.ndarray) -> set[str]:
    return set(cells.obs["donor"].iloc[rows])


@given(
    n_donors=st.integers(2, 8),
    fraction=st.floats(0.01, 0.9),
    validation=st.floats(0.0, 0.5),
    seed=st.integers(0, 10_000),
)
def test_donors_are_never_shared(
    n_donors: int, fraction: float, validation: float, seed: int
) -> None:
    cells = make_cells(n=80, n_genes=10, n_donors=n_donors, seed=seed)
    n_donors = cells.obs["donor"].nunique()
    split = split_cells(cells, "disease", fraction, validation, seed)
    learnt = donors(cells, np.concatenate([split.train_n, split.validation_n]))
    held = donors(cells, split.test_n)
    assert not learnt & held
    assert len(held) == min(max(1, round(fraction * n_donors)), n_donors - 1)
    rows = np.concatenate([split.train_n, split.validation_n, split.test_n])
    assert sorted(rows) == list(range(80))  # every cell exactly once
    assert all(name in split.kind for name in held)


@given(
    n_ill=st.integers(4, 33),
    n_healthy=st.integers(4, 33),
    fraction=st.floats(0.15, 0.6),
    seed=st.integers(0, 1000),
)
def test_a_share_of_donors_has_its_share_of_the_donors_of_each_label(
    n_ill: int, n_healthy: int, fraction: float, seed: int
) -> None:
    """In a disease study a donor has one label; a plain draw may hold out none of the healthy."""
    n = n_ill + n_healthy
    names = [f"d{i:02d}" for i in range(n)]
    cells = make_cells(n=4 * n, n_genes=10)
    disease = ["case"] * n_ill + ["control"] * n_healthy
    obs = cells.obs.assign(donor=np.repeat(names, 4), disease=np.repeat(disease, 4))
    split = split_cells(replace(cells, obs=obs), "disease", fraction, 0.1, seed)
    held = set(obs["donor"].iloc[split.test_n])
    assert len(held) == round(fraction * n)
    healthy = sum(name in held for name in names[n_ill:])
    assert abs(healthy - fraction * n_healthy) < 1.5


@given(fraction=st.floats(0.0, 0.6), seed=st.integers(0, 1000))
def test_validation_is_stratified(fraction: float, seed: int) -> None:
    cells = make_cells(n=100, n_genes=10)
    split = split_cells(cells, "disease", ["d0"], fraction, seed)
    labels = cells.obs["disease"].to_numpy()
    rest = np.concatenate([split.train_n, split.validation_n])
    for label in ("case", "control"):
        n = (labels[rest] == label).sum()
        assert (labels[split.validation_n] == label).sum() == round(fraction * n)


def test_named_donors() -> None:
    cells = make_cells()
    split = split_cells(cells, "disease", ["d3", "d1"], 0.2, 0)
    assert donors(cells, split.test_n) == {"d1", "d3"}
    assert donors(cells, split.train_n) == {"d0", "d2"}
    assert split.kind == "held-out donors d1, d3"


def test_donors_named_by_number() -> None:
    cells = make_cells()
    cells = replace(cells, obs=cells.obs.assign(donor=cells.obs["donor"].str[1:]))
    split = split_cells(cells, "disease", [1, 3], 0.2, 0)  # type: ignore[list-item]
    assert donors(cells, split.test_n) == {"1", "3"}


def test_unknown_donor_names_the_closest() -> None:
    with pytest.raises(LabelError, match=r"data\.holdout_donors: no cell is from donor 'd7'.*'d0'"):
        split_cells(make_cells(), "disease", ["d1", "d7"], 0.2, 0)


def test_cells_without_a_donor_stay_in_training() -> None:
    cells = make_cells()
    labels = cells.obs["donor"].to_numpy(dtype=object).copy()
    labels[:20] = np.nan
    cells = replace(cells, obs=cells.obs.assign(donor=labels))
    split = split_cells(cells, "disease", 0.5, 0.0, 0)
    assert set(range(20)) <= set(split.train_n)


def test_falls_back_to_a_stratified_split_and_says_so() -> None:
    cells = make_cells(n=100, n_genes=10, donor=False)
    split = split_cells(cells, "disease", 0.3, 0.2, 0)
    assert "stratified" in split.kind
    assert "no donor column" in split.kind
    labels = cells.obs["disease"].to_numpy()
    for label in ("case", "control"):  # 50 each: 15 judged on, 7 of 35 chosen on, 28 learnt from
        assert [(labels[rows] == label).sum() for rows in split.names.values()] == [28, 7, 15]


def test_named_donors_need_a_donor_column() -> None:
    with pytest.raises(CellsError, match=r"no donor column.*set study\.donor"):
        split_cells(make_cells(donor=False), "disease", ["d1"], 0.2, 0)


@pytest.mark.parametrize("donor", [True, False])
def test_seeded(donor: bool) -> None:
    cells = make_cells(donor=donor)
    first, again, other = (
        split_cells(cells, "disease", 0.5, 0.3, seed).names for seed in (4, 4, 5)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("held", "donor"), [(0.0, True), (0, True), ([], True), (0.0, False)])
def test_a_study_that_holds_nothing_out_is_refused(held: list[str] | float, donor: bool) -> None:
    """A share of 0 is none of the donors, as it is none of the cells, and not one after all."""
    with pytest.raises(CellsError, match=r"data\.holdout_donors: the test part .*above 0"):
        split_cells(make_cells(donor=donor), "disease", held, 0.2, 0)
    if donor:
        with pytest.raises(CellsError, match=r"data\.validation_donors: the validation part"):
            split_cells(make_cells(), "disease", ["d0"], 0.2, 0, validation_donors=held)


def test_the_least_share_is_one_donor() -> None:
    cells = make_cells()
    assert len(donors(cells, split_cells(cells, "disease", 0.001, 0.2, 0).test_n)) == 1


@pytest.mark.parametrize("held", [["d0", "d1", "d2", "d3"], []])
def test_parts_without_cells(held: list[str]) -> None:
    with pytest.raises(CellsError, match=r"data\.holdout_donors: the (train|test) part"):
        split_cells(make_cells(), "disease", held, 0.2, 0)
    with pytest.raises(CellsError, match="the test part"):
        split_cells(make_cells(n_donors=1), "disease", 0.5, 0.2, 0)


def test_a_label_with_one_cell_is_learnt_from() -> None:
    cells = make_cells(donor=False)
    labels = cells.obs["disease"].to_numpy(dtype=object).copy()
    labels[17] = "rare"
    cells = replace(cells, obs=cells.obs.assign(disease=labels))
    assert 17 in split_cells(cells, "disease", 0.9, 0.9, 0).train_n


def test_a_cell_cannot_be_in_two_parts() -> None:
    with pytest.raises(CellsError, match="two parts"):
        Split(np.array([0, 1]), np.array([1]), np.array([2]), "by hand")


@given(
    n_donors=st.integers(3, 9),
    holdout=st.floats(0.01, 0.9),
    share=st.floats(0.01, 0.9),
    seed=st.integers(0, 1000),
)
def test_a_fraction_of_donors_validates(
    n_donors: int, holdout: float, share: float, seed: int
) -> None:
    cells = make_cells(n=90, n_genes=10, n_donors=n_donors, seed=seed)
    n_donors = cells.obs["donor"].nunique()
    held = min(max(1, round(holdout * n_donors)), n_donors - 1)
    wanted = min(max(1, round(share * (n_donors - held))), n_donors - held - 1)
    if wanted == 0:  # one donor is left, and it has to be learnt from
        with pytest.raises(CellsError, match=r"data\.validation_donors: the validation part"):
            split_cells(cells, "disease", holdout, 0.1, seed, share)
        return
    split = split_cells(cells, "disease", holdout, 0.1, seed, share)
    train, validation, test = (donors(cells, rows) for rows in split.names.values())
    assert not (train & validation or train & test or validation & test)
    assert (len(test), len(validation)) == (held, wanted)
    rows = np.concatenate([*split.names.values()])
    assert sorted(rows) == list(range(90))
    assert split.kind.endswith(f"; validation donors {', '.join(sorted(validation))}")
    # Who is held out does not depend on who validates.
    alone = split_cells(cells, "disease", holdout, 0.1, seed)
    np.testing.assert_array_equal(split.test_n, alone.test_n)


def test_named_validation_donors() -> None:
    cells = make_cells()
    split = split_cells(cells, "disease", ["d3"], 0.2, 0, ["d1"])
    assert [donors(cells, rows) for rows in split.names.values()] == [{"d0", "d2"}, {"d1"}, {"d3"}]
    for seed in range(20):  # what is named for validation is never drawn for testing
        split = split_cells(cells, "disease", 0.6, 0.2, seed, ["d1"])
        assert donors(cells, split.validation_n) == {"d1"}
        assert len(donors(cells, split.test_n)) == 2


@pytest.mark.parametrize(
    ("validation_donors", "message"),
    [
        (["d2", "d3"], "donor 'd3' is also among the held-out donors"),
        (["d9"], "no cell is from donor 'd9'; expected one of"),
        ([], "the validation part of the split has no cells"),
    ],
)
def test_wrong_validation_donors(validation_donors: list[str], message: str) -> None:
    with pytest.raises(CellsError) as error:
        split_cells(make_cells(), "disease", ["d3"], 0.2, 0, validation_donors)
    assert str(error.value).startswith("data.validation_donors: ")
    assert message in str(error.value)


@pytest.mark.parametrize("wanted", [["d1"], 0.3])
def test_validation_donors_need_a_donor_column(wanted: list[str] | float) -> None:
    with pytest.raises(CellsError, match=r"data\.validation_donors: .*set study\.donor"):
        split_cells(make_cells(donor=False), "disease", 0.3, 0.2, 0, wanted)
