"""The mean of matched controls: its numbers, whom it is made of, and the plan that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema, log_normalise
from gradgene.errors import PairError
from gradgene.pairs import BASELINES, MeanBaseline, PairPlan, PairSampler
from tests.planted import make_cells, make_tokenizer

Row = tuple[str, str, str, str, list[float]]


def cells_of(rows: list[Row], donor: bool = True) -> Cells:
    """Cells of (disease, cell type, donor, sex, prepared values)."""
    obs = pd.DataFrame(
        [row[:4] for row in rows],
        columns=["disease", "cell_type", "donor", "sex"],
        index=[f"c{i}" for i in range(len(rows))],
    )
    values = np.array([row[4] for row in rows], dtype=np.float32)
    return Cells(
        sparse.csr_matrix(values),
        obs,
        tuple(f"g{i}" for i in range(values.shape[1])),
        ("",) * values.shape[1],
        CellSchema(
            ("disease", "cell_type", "sex"), donor="donor" if donor else None, values="lognorm"
        ),
    )


ROWS: list[Row] = [
    ("case", "T cell", "a", "male", [1.0, 1.0, 0.0]),
    ("case", "B cell", "a", "male", [1.0, 0.0, 0.0]),
    # Three T cells of one donor and one of another: the means of donors are (2, 0, 3), (6, 1, 0).
    ("control", "T cell", "a", "male", [1.0, 0.0, 3.0]),
    ("control", "T cell", "a", "male", [2.0, 0.0, 3.0]),
    ("control", "T cell", "a", "female", [3.0, 0.0, 3.0]),
    ("control", "T cell", "b", "female", [6.0, 1.0, 0.0]),
    ("control", "B cell", "b", "female", [0.0, 8.0, 0.0]),
    ("other", "T cell", "b", "male", [99.0, 99.0, 99.0]),
]


def plan_of(cells: Cells, match_on: tuple[str, ...] = ("cell_type",), **more: object) -> PairPlan:
    sampler = PairSampler("disease", "case", "control", match_on, **more)  # type: ignore[arg-type]
    return sampler.sample(cells)


def test_by_hand() -> None:
    before = cells_of(ROWS)
    cells, plan = MeanBaseline().arrange(before, plan_of(before, per_cell=3))
    assert len(cells) == len(ROWS) + 2
    np.testing.assert_array_equal(
        cells.matrix_ng[: len(ROWS)].toarray(), before.matrix_ng.toarray()
    )
    table = plan.table.set_index("input")
    assert sorted(table.index) == ["c0", "c1"] and plan.table["pair"].tolist() == [0, 1]
    of_t, of_b = table.loc["c0"], table.loc["c1"]
    assert of_t["baseline"] == "mean of 4 control cells (T cell)"
    assert of_b["baseline"] == "mean of 1 control cells (B cell)"
    assert cells.obs.index[of_t["baseline_row"]] == of_t["baseline"]
    assert cells.matrix_ng[of_t["baseline_row"]].toarray().tolist() == [[4.0, 0.5, 1.5]]
    assert cells.matrix_ng[of_b["baseline_row"]].toarray().tolist() == [[0.0, 8.0, 0.0]]
    # Donors count alike: female is a third of donor a's half and all of donor b's.
    labels = {c: cells.obs[c].iloc[of_t["baseline_row"]] for c in ("disease", "cell_type", "sex")}
    assert labels == {"disease": "control", "cell_type": "T cell", "sex": "female"}
    assert of_t["donor_baseline"] is None and of_b["donor_baseline"] == "b"
    assert plan.control_rows.tolist() == [2, 3, 4, 5, 6]
    assert cells.matrix_ng.dtype == np.float32


def test_without_donors_cells_count_alike() -> None:
    before = cells_of(ROWS, donor=False)
    cells, plan = MeanBaseline().arrange(before, plan_of(before))
    row = plan.table.set_index("input").loc["c0"]
    assert cells.matrix_ng[row["baseline_row"]].toarray().tolist() == [[3.0, 0.25, 2.25]]
    assert cells.obs["sex"].iloc[row["baseline_row"]] == "female", "the first by name of equals"
    assert plan.table["donor_baseline"].isna().all()


def test_labels_that_no_control_has_stay_missing() -> None:
    before = cells_of(ROWS)
    obs = before.obs.assign(sex=pd.Series(np.nan, before.obs.index, dtype=object))
    before = Cells(before.matrix_ng, obs, before.genes, before.ensembl_ids, before.schema)
    cells, _ = MeanBaseline().arrange(before, plan_of(before))
    assert cells.obs["sex"].isna().all()


@given(st.integers(0, 2**31 - 1))
def test_equals_a_loop_over_cells(seed: int) -> None:
    before = log_normalise(make_cells(n=40, n_genes=12, seed=seed % 1000))
    plan = plan_of(before, ("sex",), seed=seed, max_pairs=7)
    cells, found = MeanBaseline().arrange(before, plan)
    assert set(found.table["input"]) == set(plan.table["input"])
    for _, row in found.table.iterrows():
        own = before.obs.loc[str(row["input"])]
        donors: dict[str, list[np.ndarray]] = {}
        for i, obs in enumerate(before.obs.to_dict("records")):
            if obs["disease"] == "control" and obs["sex"] == own["sex"]:
                donors.setdefault(obs["donor"], []).append(before.matrix_ng[i].toarray()[0])
        means = [np.mean(values, axis=0, dtype=np.float64) for values in donors.values()]
        n = sum(map(len, donors.values()))
        assert row["baseline"] == f"mean of {n} control cells ({own['sex']})"
        np.testing.assert_allclose(
            cells.matrix_ng[row["baseline_row"]].toarray()[0], np.mean(means, axis=0), rtol=1e-6
        )


def test_values_are_not_normalised_twice() -> None:
    """Of equal controls the mean is any of them, tokens and all."""
    counts = make_cells(n=30, n_genes=20)
    prepared = make_tokenizer(counts).prepare(counts)
    control = int(np.flatnonzero(prepared.obs["disease"] == "control")[0])
    rows = np.where(prepared.obs["disease"] == "control", control, np.arange(len(prepared)))
    obs = prepared.obs.assign(cell_type="T cell", sex="female")
    same = Cells(
        prepared.matrix_ng[rows], obs, prepared.genes, prepared.ensembl_ids, prepared.schema
    )
    cells, plan = MeanBaseline().arrange(same, plan_of(same))
    tokens = make_tokenizer(counts)(cells)  # prepares again, which must change nothing
    mean = int(plan.baseline_rows[0])
    for name, tensor in tokens.tensors().items():
        assert tensor[mean].tolist() == tensor[control].tolist(), name


def test_counts_are_refused() -> None:
    counts = make_cells()
    with pytest.raises(PairError, match=r"not prepared.*tokenizer\.prepare"):
        MeanBaseline().arrange(counts, plan_of(counts))


def test_a_file_names_inputs_and_their_strata_the_controls(tmp_path: Path) -> None:
    before = cells_of(ROWS)
    file = tmp_path / "pairs.csv"
    file.write_text("input,baseline\nc1,c2\nc0,c7\nc1,c3\n")
    cells, plan = MeanBaseline().arrange(before, plan_of(before, file=str(file)))
    assert plan.table[["input", "baseline"]].to_numpy().tolist() == [
        ["c1", "mean of 1 control cells (B cell)"],
        ["c0", "mean of 4 control cells (T cell)"],
    ]
    assert plan.table["pair"].tolist() == [0, 1] and len(cells) == len(ROWS) + 2


def test_an_input_of_a_file_without_a_matched_control(tmp_path: Path) -> None:
    before = cells_of([row for row in ROWS if row[:2] != ("control", "B cell")])
    file = tmp_path / "pairs.csv"
    file.write_text("input,baseline\nc0,c2\nc1,c2\n")
    plan = plan_of(before, file=str(file))
    with pytest.raises(PairError, match=r"baseline=mean: no control.*'c1'.*none in 'B cell'"):
        MeanBaseline().arrange(before, plan)


def test_only_the_cells_given_are_averaged() -> None:
    """A part of a split by itself: cells of the other part change nothing."""
    whole = log_normalise(make_cells(n=80, n_genes=12))
    held = whole.take(np.flatnonzero(whole.obs["donor"] == "d3"))
    cells, plan = MeanBaseline().arrange(held, plan_of(held, ()))
    assert set(plan.table["donor_baseline"]) == {"d3"}
    controls = held.take(np.flatnonzero(held.obs["disease"] == "control"))
    expected = controls.matrix_ng.toarray().mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(cells.matrix_ng[-1].toarray()[0], expected, rtol=1e-6)


def test_other_strategies_arrange_nothing() -> None:
    cells = make_cells()
    plan = plan_of(cells)
    for name in ("cell_state", "empty", "zero"):
        arranged = BASELINES[name]().arrange(cells, plan)
        assert arranged[0] is cells and arranged[1] is plan
