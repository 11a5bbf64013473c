"""Intervals of what takes both labels, where cases and controls are different donors.

No donor then has a value of its own, but the donors of either label contribute to it: balanced
accuracy is half the sum of the two labels' accuracies, AUROC the mean of the placements of either
label's cells among the other's (DeLong et al. 1988; for clusters of cells Obuchowski 1997). The two
sides vary independently, so that the interval is Welch's. `f1` and `precision` of both arms are no
such sums (both labels' cells are in every count), and have no interval there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy import stats

__all__ = ["LEAST", "SIDES", "Side", "side_interval", "welch_reach"]

#: So many draws, donors, or donors of each side make an interval.
LEAST = 3


@dataclass(frozen=True)
class Side:
    """What the donors of each side contribute to a metric of both.

    Attributes
    ----------
    metric
        Name of what each donor has, in the arms "input" and "baseline".
    weight
        How much the metric changes with the mean of it over the donors of one side.
    """

    metric: str
    weight: float


#: Metric of both arms -> what each side's donors contribute.
SIDES: Mapping[str, Side] = MappingProxyType(
    {"balanced_accuracy": Side("accuracy", 0.5), "auroc": Side("auroc", 1.0)}
)


def side_interval(
    input_d: np.ndarray, baseline_d: np.ndarray, weight: float
) -> tuple[float, float]:
    """95 % interval about the middle of the two sides' means over donors.

    Parameters
    ----------
    input_d, baseline_d
        (donors,) what each donor of a side contributes, without NaN.
    weight
        See `Side`: 1/2 for the mean of two independent means, 1 where each side estimates the
        whole.

    Returns
    -------
    tuple
        Bounds; NaN with fewer than three donors on a side.
    """
    reach = weight * welch_reach(input_d, baseline_d)
    if np.isnan(reach):
        return reach, reach
    middle = (float(input_d.mean()) + float(baseline_d.mean())) / 2
    return middle - reach, middle + reach


def welch_reach(first_n: np.ndarray, second_n: np.ndarray, level: float = 0.95) -> float:
    """How far Welch's interval of the sum, or difference, of two means reaches to either side.

    NaN with fewer than three values in either; 0 where neither varies.
    """
    sides = (first_n, second_n)
    if min(map(len, sides)) < LEAST:
        return float("nan")
    parts = [float(side.var(ddof=1) / len(side)) for side in sides]
    if sum(parts) == 0:
        return 0.0
    below = [part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)]
    freedom = sum(parts) ** 2 / sum(below)
    return float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(sum(parts)))
