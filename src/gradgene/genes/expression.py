"""What the cells of the pairs themselves show of each gene: presence, direction, fold change."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells import Cells
from gradgene.pairs import PairPlan

__all__ = ["expression_of_pairs"]

#: Counts per 10,000 added to both means, so that unexpressed genes have a finite fold change.
PSEUDO_COUNT = 0.1


def expression_of_pairs(cells: Cells, plan: PairPlan, threshold: float) -> pd.DataFrame:
    """One row a gene of `cells` (log-normalised), in their order.

    `n_pairs` pairs in which either member expresses it (value >= `threshold`), `n_cells` and
    `n_donors` distinct input cells and known donors of those pairs (donors null where none is
    known), `log_fold_change` log2 of mean counts per 10,000 of the distinct input cells over
    the distinct baseline cells (the cells behind an averaged baseline, not the mean of their
    logarithms), `direction` up or down (null where equal).
    """
    inputs, baselines = plan.input_rows, plan.baseline_rows
    expressed = cells.expressed(threshold)
    present_pg = (expressed[inputs] + expressed[baselines]).astype(bool)
    donors = plan.table["donor_input"].fillna("").astype(str).to_numpy()
    named = donors != ""
    change = _log_fold_change(cells, np.unique(inputs), plan.control_rows)
    direction = np.array(["down", None, "up"], dtype=object)[np.sign(change).astype(int) + 1]
    return pd.DataFrame(
        {
            "gene": cells.genes,
            "ensembl_id": [e or None for e in cells.ensembl_ids],
            "n_pairs": np.asarray(present_pg.sum(axis=0)).ravel(),
            "n_cells": _distinct(present_pg, inputs),
            "n_donors": (
                _distinct(present_pg[named], donors[named])
                if named.any()
                else pd.array([pd.NA] * len(cells.genes), dtype="Int64")
            ),
            "log_fold_change": change,
            "direction": direction,
        }
    )


def _distinct(present_pg: sparse.csr_matrix, keys_p: np.ndarray) -> np.ndarray:
    """Number of distinct keys among the pairs that have each gene."""
    _, group_p = np.unique(keys_p.astype(str), return_inverse=True)
    one = np.ones(len(group_p), dtype=np.int64)
    members = sparse.csr_matrix((one, (group_p, np.arange(len(group_p)))))
    return np.asarray((members @ present_pg.astype(np.int64) > 0).sum(axis=0)).ravel()


def _log_fold_change(cells: Cells, inputs: np.ndarray, baselines: np.ndarray) -> np.ndarray:
    means = [
        np.asarray(cells.matrix_ng[rows].expm1().mean(axis=0)).ravel()
        for rows in (inputs, baselines)
    ]
    return np.log2(means[0] + PSEUDO_COUNT) - np.log2(means[1] + PSEUDO_COUNT)
