"""Which controls each input cell may be paired with, and why some may have none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.cells import Cells
from gradgene.pairs.plan import no_skipped

__all__ = ["Matches", "controls_of", "donors_of", "find_matches", "group", "strata_of"]

#: Stratum of cells that lack a label to match on: they equal nothing, not even each other.
UNKNOWN = "a label to match on is missing"
#: Why a cell is not drawn by permuted labels.
ONE_LABEL = "its donor has no cell of the other label to exchange labels with"


@dataclass(frozen=True)
class Matches:
    """The input cells that have a control, and what they may be paired with.

    Attributes
    ----------
    inputs
        Positions of the input cells with at least one control, in the order of the cells.
    partners
        Position of each of these -> positions of its controls, ascending; cells that may have the
        same ones share one array.
    controls
        Stratum -> positions of every cell of the baseline's label in it.
    skipped
        The input cells without a control: `stratum, n_cells, reason`.
    """

    inputs: np.ndarray
    partners: dict[int, np.ndarray]
    controls: dict[str, np.ndarray]
    skipped: pd.DataFrame


def find_matches(
    inputs: np.ndarray,
    baselines: np.ndarray,
    strata_n: np.ndarray,
    donors_n: np.ndarray,
    *,
    baseline: str,
    same_donor: bool,
    can_draw_n: np.ndarray,
) -> Matches:
    """Match the cells at positions `inputs` with those at `baselines`, of the label `baseline`.

    They must be of one stratum and, if `same_donor`, of one donor; `strata_n` and `donors_n` are
    those of all cells, the donor "" where it is not known. `can_draw_n` says which cells labels
    allow to be drawn; see `PairSampler.permute_labels`.
    """
    controls = controls_of(baselines[can_draw_n[baselines]], strata_n)
    pools = {(stratum, ""): rows for stratum, rows in controls.items()}
    if same_donor:
        pools = {
            (stratum, donor): mine
            for stratum, rows in controls.items()
            for donor, mine in group(rows, donors_n).items()
            if donor  # cells of no known donor are of no same one
        }
    partners: dict[int, np.ndarray] = {}
    reasons: list[tuple[str, str]] = []
    for row in inputs.tolist():
        stratum, donor = strata_n[row], donors_n[row]
        pool = pools.get((stratum, donor if same_donor else ""))
        if not can_draw_n[row]:
            reasons.append((stratum, ONE_LABEL))
        elif pool is not None:
            partners[row] = pool
        elif stratum == UNKNOWN:
            reasons.append((stratum, UNKNOWN))
        elif stratum not in controls:
            reasons.append((stratum, f"no {baseline!r} cell in {stratum!r}"))
        elif not donor:
            reasons.append((stratum, "the donor is missing"))
        else:
            reasons.append((stratum, f"no {baseline!r} cell of the same donor in {stratum!r}"))
    return Matches(np.array([*partners], dtype=np.int64), partners, controls, _skipped(reasons))


def controls_of(rows: np.ndarray, strata_n: np.ndarray) -> dict[str, np.ndarray]:
    """The cells of the baseline's label, at `rows`, by stratum; `strata_n` has every cell's."""
    return {s: found for s, found in group(rows, strata_n).items() if s != UNKNOWN}


def donors_of(cells: Cells) -> np.ndarray:
    """(cells,) donors, "" if unknown; without a donor column all are of the one unnamed donor."""
    if cells.schema.donor is None:
        return np.full(len(cells), "", dtype=object)
    return cells.obs[cells.schema.donor].fillna("").to_numpy(dtype=object)


def strata_of(cells: Cells, match_on: tuple[str, ...]) -> np.ndarray:
    """(cells,) labels of the matched categories in one, `UNKNOWN` where a label is missing."""
    if not match_on:
        return np.full(len(cells), "all cells", dtype=object)
    frame = cells.obs[list(match_on)]
    strata = np.array([" | ".join(map(str, row)) for row in frame.to_numpy()], dtype=object)
    strata[frame.isna().any(axis=1).to_numpy()] = UNKNOWN
    return strata


def group(rows: np.ndarray, keys_n: np.ndarray) -> dict[str, np.ndarray]:
    """Rows by their key (`keys_n` has one for every cell), keys in order of name."""
    return {str(k): rows[keys_n[rows] == k] for k in sorted(set(keys_n[rows].tolist()))}


def _skipped(reasons: list[tuple[str, str]]) -> pd.DataFrame:
    """The table of skipped cells, from the stratum and the reason of each, by name."""
    if not reasons:
        return no_skipped()
    counts = pd.DataFrame(reasons, columns=["stratum", "reason"]).value_counts().sort_index()
    found = counts.rename("n_cells").reset_index()
    return found[["stratum", "n_cells", "reason"]].astype({"n_cells": np.int64})
