"""Points of pruning curves, over all judged cells and donor by donor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradgene.genes import donor_interval
from gradgene.pruning.curve import CURVE_COLUMNS, DONOR_COLUMNS, PruningCurve
from gradgene.pruning.metrics import arm_metrics, placements
from gradgene.pruning.predict import Predictions
from gradgene.pruning.sides import SIDES, side_interval

__all__ = ["Arms", "Point", "curve_of"]


@dataclass(frozen=True)
class Arms:
    """The cells that predictions are judged by.

    Attributes
    ----------
    truth_n
        (cells,) index of the true label among `labels`.
    donors_n
        (cells,) donor names, "" where a cell has no one donor; or None.
    labels
        Labels of the target category.
    input, baseline
        The labels of the arms.
    """

    truth_n: np.ndarray
    donors_n: np.ndarray | None
    labels: tuple[str, ...]
    input: str
    baseline: str

    def true(self, p_nc: np.ndarray) -> np.ndarray:
        """(cells,) the probability of the true label."""
        true_n: np.ndarray = p_nc[np.arange(len(p_nc)), self.truth_n]
        return true_n

    def measure(
        self, p_nc: np.ndarray, whole_n: np.ndarray, rows: np.ndarray | None = None
    ) -> dict[tuple[str, str], float]:
        """(arm, metric) -> value over all cells, or those at `rows`."""
        at = slice(None) if rows is None else rows
        found = Predictions(p_nc[at], self.labels)
        return arm_metrics(found, self.truth_n[at], self.input, self.baseline, whole_n[at])

    def by_donor(
        self, p_nc: np.ndarray, whole_n: np.ndarray
    ) -> dict[str, dict[tuple[str, str], float]]:
        """Donor -> (arm, metric) -> value over its cells alone, in order of name.

        Besides the metrics of its cells there is "auroc" of the arms "input" and "baseline": the
        AUROC of its cells of one label against all cells of the other.
        """
        u, v = (self.labels.index(label) for label in (self.input, self.baseline))
        judged_n = np.flatnonzero(np.isin(self.truth_n, (u, v)))
        placed_n = np.full(len(p_nc), np.nan)
        of_input_n = self.truth_n[judged_n] == u
        if of_input_n.any() and not of_input_n.all():
            placed_n[judged_n] = placements(p_nc[judged_n, u], of_input_n)
        found = {}
        for donor, at in self.donor_rows().items():
            found[donor] = self.measure(p_nc, whole_n, at)
            for arm, label in (("input", u), ("baseline", v)):
                mine = placed_n[at[self.truth_n[at] == label]]
                if len(mine) and np.isfinite(mine).all():
                    found[donor][arm, "auroc"] = float(mine.mean())
        return found

    def donor_rows(self) -> dict[str, np.ndarray]:
        """Donor -> positions of its cells, in order of name."""
        if self.donors_n is None:
            return {}
        names = sorted(set(self.donors_n.tolist()) - {""})
        return {str(name): np.flatnonzero(self.donors_n == name) for name in names}

    def n_cells(self) -> dict[str, int]:
        """Arm -> number of its cells."""
        of = {
            arm: int((self.truth_n == self.labels.index(label)).sum())
            for arm, label in (("input", self.input), ("baseline", self.baseline))
        }
        return {**of, "both": sum(of.values())}


@dataclass(frozen=True)
class Point:
    """Predictions at one point of one curve.

    Attributes
    ----------
    at
        Values of the columns that say which point: `ranking, draw, order, ratio`.
    p_nc
        (cells, labels) probabilities after the cut.
    whole_n
        (cells,) probability of the true label on the whole panel.
    """

    at: Mapping[str, Any]
    p_nc: np.ndarray
    whole_n: np.ndarray


def curve_of(points: Iterable[Point], arms: Arms, facts: Mapping[str, Any]) -> PruningCurve:
    """The curves through these points; `facts` are `rank_source, split, seed`."""
    n_cells, source = arms.n_cells(), {"rank_source": facts["rank_source"]}
    rows: list[dict[str, Any]] = []
    by_donor: list[dict[str, Any]] = []
    for point in points:
        values = arms.measure(point.p_nc, point.whole_n)
        of_donors = arms.by_donor(point.p_nc, point.whole_n)
        intervals = _intervals(list(values), list(of_donors.values()))
        for (arm, metric), value in values.items():
            low, high, n_donors = intervals[arm, metric]
            rows.append(
                {
                    **point.at,
                    "arm": arm,
                    "metric": metric,
                    **facts,
                    "value": value,
                    "ci_low": low,
                    "ci_high": high,
                    "n_cells": n_cells[arm],
                    "n_donors": None if arms.donors_n is None else n_donors,
                }
            )
        by_donor += [
            {**point.at, **source, "arm": arm, "metric": metric, "donor": donor, "value": value}
            for donor, found in of_donors.items()
            for (arm, metric), value in found.items()
        ]
    return PruningCurve(
        pd.DataFrame(rows, columns=CURVE_COLUMNS), pd.DataFrame(by_donor, columns=DONOR_COLUMNS)
    )


def _intervals(
    keys: Sequence[tuple[str, str]], of_donors: Sequence[Mapping[tuple[str, str], float]]
) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Bounds of the mean over donors of each quantity, and how many donors have it.

    What takes both labels has, where fewer than three donors have both, the interval of `SIDES`.
    """
    value_dk = np.array([[found.get(key, np.nan) for key in keys] for found in of_donors])
    value_dk = value_dk.reshape(len(of_donors), len(keys))
    intervals = {key: (float("nan"), float("nan"), 0) for key in keys}
    # Quantities that the same donors have are done together.
    known_dk = np.isfinite(value_dk)
    for pattern_d in np.unique(known_dk, axis=1).T:
        at = np.flatnonzero((known_dk == pattern_d[:, None]).all(axis=0))
        found = donor_interval(value_dk[np.ix_(pattern_d, at)])
        for k, low, high in zip(at, found.low, found.high, strict=True):
            intervals[keys[int(k)]] = (float(low), float(high), int(pattern_d.sum()))
    for metric, side in SIDES.items():
        if not np.isnan(intervals.get(("both", metric), (0.0,))[0]):
            continue
        of_input, of_baseline = (
            np.array(
                [found[arm, side.metric] for found in of_donors if (arm, side.metric) in found]
            )
            for arm in ("input", "baseline")
        )
        low, high = side_interval(of_input, of_baseline, side.weight)
        if np.isfinite(low):
            intervals["both", metric] = (low, high, len(of_input) + len(of_baseline))
    return intervals
