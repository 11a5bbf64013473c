"""What is known of each pair besides its scores: donor, batch, label, input cell and depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.cells import Cells
from gradgene.errors import RankingError, closest
from gradgene.genes.crossing import Crossing
from gradgene.pairs import PairPlan

__all__ = ["PairDesign"]

COLUMNS = ("donor", "batch", "label")
MEMBERS = ("input", "baseline")


@dataclass(frozen=True)
class PairDesign:
    """The groups that scores are summed in, and what may explain scores besides the label.

    Attributes
    ----------
    groups
        One row a group of pairs, sorted: `donor, batch, label` of the input cell, each text or
        None where unknown; where the baseline's batch is another one, `batch` names both.
    group_p
        (pairs,) int64 row of `groups` of each pair of the plan.
    input_p
        (pairs,) int64 number of each pair's distinct input cell, counted from 0.
    depth_p
        (pairs,) float64 ln(1 + expressed genes): input minus baseline where a baseline swaps,
        otherwise of the input.
    sharing
        Variance of a mean over the pairs where labels do not matter, over what it would be if no
        two input cells shared a baseline cell; at least 1. Exchanges of whole input cells see only
        the latter, so their spread is widened by it.
    crossing
        In which pairs the donors of baseline cells are; None where no donor is known.
    exchangeable
        Whether labels can be exchanged without exchanging donors: every donor of input cells has
        baseline cells too, or donors are unknown.

    Raises
    ------
    RankingError
        If the parts do not fit each other.
    """

    groups: pd.DataFrame
    group_p: np.ndarray
    input_p: np.ndarray
    depth_p: np.ndarray
    sharing: float = 1.0
    crossing: Crossing | None = None
    exchangeable: bool = True

    def __post_init__(self) -> None:
        if list(self.groups.columns) != list(COLUMNS):
            raise RankingError(
                "groups of pairs need other columns",
                expected=", ".join(COLUMNS),
                found=", ".join(map(str, self.groups.columns)),
            )
        if not len(self.group_p) == len(self.input_p) == len(self.depth_p):
            raise RankingError("groups, input cells and depths of pairs differ in number")
        least = min(self.group_p.min(initial=0), self.input_p.min(initial=0))
        if least < 0 or self.group_p.max(initial=-1) >= len(self.groups):
            raise RankingError(
                "a pair is of no group or of no input cell",
                expected=f"numbers of groups from 0 and below {len(self.groups)}",
            )

    def __len__(self) -> int:
        return len(self.group_p)

    @classmethod
    def of(
        cls,
        plan: PairPlan,
        cells: Cells,
        threshold: float,
        *,
        by: str | None = None,
        swaps: bool = True,
    ) -> PairDesign:
        """The design of a plan.

        Parameters
        ----------
        plan, cells
            Pairs and the prepared cells they were drawn among, both as the baseline arranged them.
        threshold
            Value from which a gene counts as expressed.
        by
            Category whose label of the input cell parts the groups; None leaves labels unknown.
        swaps
            Whether the baseline swaps: then a pair's depth is the difference of its two cells.

        Raises
        ------
        RankingError
            If `by` is no category of the cells.
        """
        if by is not None and by not in cells.obs.columns:
            raise RankingError(
                f"no category {by!r}",
                where="ranking.by",
                expected=f"one of {closest(by, cells.obs.columns)}",
            )
        table = plan.table
        nothing = pd.Series(None, index=table.index, dtype=object)
        labels = nothing if by is None else cells.obs[by].iloc[plan.input_rows]
        known = {
            "donor": table.get("donor_input", nothing),
            "batch": _batches(table, swaps),
            "label": labels,
        }
        groups, group_p = _grouped(pd.DataFrame({c: _texts(v) for c, v in known.items()}))
        depth_n = np.log1p(np.asarray(cells.expressed(threshold).sum(axis=1)).ravel())
        depth_p = depth_n[plan.input_rows]
        if swaps:
            depth_p = depth_p - depth_n[plan.baseline_rows]
        _, input_p = np.unique(plan.input_rows, return_inverse=True)
        inputs_p, baselines_p = (_texts(table.get(f"donor_{m}", nothing)) for m in MEMBERS)
        of_baselines = {*baselines_p, *(d for ds in plan.averaged_donors.values() for d in ds)}
        crossed = Crossing.of(inputs_p, baselines_p, None if by is None else _texts(labels))
        return cls(
            groups,
            group_p,
            input_p.ravel().astype(np.int64),
            depth_p.astype(np.float64),
            _sharing(plan),
            crossed if len(crossed.rows) else None,
            set(inputs_p) <= of_baselines or set(inputs_p) == {""},
        )


def _batches(table: pd.DataFrame, swaps: bool) -> pd.Series:
    """Each pair's batch, or both where the input's and that of what it is compared with differ."""
    nothing = pd.Series(None, index=table.index, dtype=object)
    of_input = table.get("batch_input", nothing)
    of_baseline = table.get("batch_baseline", nothing)
    if not swaps:
        return of_input
    differ = of_baseline.notna() & of_input.notna() & (of_baseline != of_input)
    return of_input.mask(differ, of_input.astype(str) + " against " + of_baseline.astype(str))


def _sharing(plan: PairPlan) -> float:
    """Variance of the sum of h(input) - h(baseline), over that with a baseline for every pair.

    h is any number of a cell: where labels do not matter, cells of both sides have one variance,
    and a mean of m cells has an m-th of it. What else differs from pair to pair is shared by none,
    so that the ratio is the largest that sharing can make.
    """
    _, n_i = np.unique(plan.input_rows, return_counts=True)
    rows_b, n_b = np.unique(plan.baseline_rows, return_counts=True)
    behind_b = np.array([len(plan.averaged.get(int(row), (row,))) for row in rows_b])
    of_inputs = float((n_i**2).sum())
    shared, apart = float((n_b**2 / behind_b).sum()), float((n_b / behind_b).sum())
    return (of_inputs + shared) / (of_inputs + apart)


def _texts(values: pd.Series) -> np.ndarray:
    """Labels as text, "" where unknown."""
    known = values.notna().to_numpy()
    return np.where(known, values.astype(object).to_numpy(), "").astype(str).astype(object)


def _grouped(frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Distinct rows in order of name with None for "", and the number of each row's group."""
    groups = frame.drop_duplicates().sort_values(list(COLUMNS)).reset_index(drop=True)
    numbered = groups.assign(group=np.arange(len(groups)))
    group_p = frame.merge(numbered, on=list(COLUMNS), how="left")["group"]
    return groups.where(groups != "", None), group_p.to_numpy(dtype=np.int64)
