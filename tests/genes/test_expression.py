"""What the cells of the pairs show of each gene, against loops over cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema
from gradgene.genes import expression_of_pairs
from gradgene.pairs import PairPlan


def cells_of(values: list[list[float]] | np.ndarray, ensembl: tuple[str, ...] = ()) -> Cells:
    matrix = sparse.csr_matrix(np.asarray(values, dtype=np.float32))
    n, g = matrix.shape
    return Cells(
        matrix_ng=matrix,
        obs=pd.DataFrame({"disease": ["case"] * n}, index=[f"c{i}" for i in range(n)]),
        genes=tuple(f"g{i}" for i in range(g)),
        ensembl_ids=ensembl or ("",) * g,
        schema=CellSchema(phenotypes=("disease",), values="lognorm"),
    )


def plan_of(inputs: list[int], baselines: list[int], donors: Sequence[str | None]) -> PairPlan:
    table = pd.DataFrame(
        {
            "pair": range(len(inputs)),
            "input_row": inputs,
            "baseline_row": baselines,
            "donor_input": donors,
        }
    )
    return PairPlan(table, pd.DataFrame({"stratum": [], "n_cells": [], "reason": []}))


@given(st.integers(0, 2**31 - 1))
def test_counts_equal_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 3, (8, 5)) * (rng.uniform(size=(8, 5)) < 0.4)
    n_pairs = int(rng.integers(1, 12))
    inputs = rng.integers(0, 4, n_pairs).tolist()
    baselines = rng.integers(4, 8, n_pairs).tolist()
    donors = [f"d{i // 2}" for i in inputs]
    found = expression_of_pairs(cells_of(values), plan_of(inputs, baselines, donors), 0.5)
    expressed = values.astype(np.float32) >= 0.5
    for g, row in enumerate(found.to_dict(orient="records")):
        having = [
            p for p in range(n_pairs) if expressed[inputs[p], g] or expressed[baselines[p], g]
        ]
        assert row["gene"] == f"g{g}"
        assert row["n_pairs"] == len(having)
        assert row["n_cells"] == len({inputs[p] for p in having})
        assert row["n_donors"] == len({donors[p] for p in having})


def test_a_value_at_the_threshold_is_expressed() -> None:
    cells = cells_of([[0.5, 0.49], [0.0, 0.0]])
    found = expression_of_pairs(cells, plan_of([0], [1], ["d0"]), 0.5)
    assert found["n_pairs"].tolist() == [1, 0]


@pytest.mark.parametrize("edge", [0.1, 0.7, 1.0889])
def test_the_threshold_is_the_tokenizers(edge: float) -> None:
    """A float32 value that rounds to just beside the edge is expressed in both or in neither."""
    at_edge = np.float32(edge)
    neighbours = [np.nextafter(at_edge, np.float32(k)) for k in (0, 9)]
    values = np.array([[at_edge, *neighbours], [0, 0, 0]], dtype=np.float32)
    found = expression_of_pairs(cells_of(values), plan_of([0], [1], ["d0"]), edge)
    assert found["n_pairs"].tolist() == np.digitize(values[0], [edge]).tolist()


def test_fold_change_by_hand() -> None:
    """Counts per 10,000: g0 has 0 and 6.3 in the inputs (mean 3.1+0.05), 0.7 in the baselines.

    The inputs are cells 0 and 1, each counted once although cell 0 is in two pairs.
    """
    counts = np.array(
        [[6.2, 0.0, 4.0], [0.0, 0.0, 4.0], [0.7, 2.0, 4.0], [0.7, 1.0, 4.0], [9.0, 9.0, 9.0]]
    )
    plan = plan_of([0, 0, 1], [2, 3, 3], ["d0", "d0", "d1"])
    found = expression_of_pairs(cells_of(np.log1p(counts)), plan, 0.1)
    expected = [np.log2(3.2 / 0.8), np.log2(0.1 / 1.6), 0.0]
    assert found["log_fold_change"].tolist() == pytest.approx(expected, abs=1e-5)
    assert found["log_fold_change"].tolist() == pytest.approx([2.0, -4.0, 0.0], abs=1e-5)
    assert found["direction"].tolist() == ["up", "down", None]
    assert found["n_cells"].tolist() == [2, 2, 2]


def test_without_donors_their_number_is_null() -> None:
    cells = cells_of([[1.0], [1.0]], ensembl=("ENSG1",))
    found = expression_of_pairs(cells, plan_of([0], [1], [None]), 0.5)
    assert found["n_donors"].isna().all()
    assert found["n_donors"].dtype == "Int64"
    assert found["n_cells"].tolist() == [1]


def test_cells_of_unknown_donors_are_of_no_donor() -> None:
    """The sampler writes them as "", as opposed to None where there is no donor column."""
    cells = cells_of([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    found = expression_of_pairs(cells, plan_of([0, 1, 2], [3, 3, 3], ["a", "", "b"]), 0.5)
    assert found["n_donors"].tolist() == [2, 0]
    assert found["n_cells"].tolist() == [3, 1]


def test_missing_ensembl_ids_are_null() -> None:
    cells = cells_of([[1.0, 1.0], [1.0, 1.0]], ensembl=("ENSG1", ""))
    found = expression_of_pairs(cells, plan_of([0], [1], ["d0"]), 0.5)
    assert found["ensembl_id"].tolist() == ["ENSG1", None]
