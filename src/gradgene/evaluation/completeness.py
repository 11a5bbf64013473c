"""Do the scores of each pair add up to what they explain?"""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["completeness_summary"]

QUANTILES = {"relative_delta_p50": 0.5, "relative_delta_p99": 0.99, "relative_delta_max": 1.0}


def completeness_summary(pairs: pd.DataFrame, promised: bool) -> dict[str, float]:
    """What a method promised and what was measured, as numbers for `metrics.json`.

    Parameters
    ----------
    pairs
        Table of pairs with a column `relative_delta`: that of `DirectionScores.relative_delta_p`,
        the larger of the two directions.
    promised
        The method's `is_complete`: whether its scores are meant to add up.

    Returns
    -------
    dict
        `complete` (1 promised, 0 not), and `relative_delta_p50`, `_p99` and `_max`: median, 99th
        percentile and maximum, NaN for an empty table.
    """
    values = pairs["relative_delta"].to_numpy(dtype=float)
    measured = {
        name: float(np.quantile(values, share)) if len(values) else float("nan")
        for name, share in QUANTILES.items()
    }
    return {"complete": float(promised), **measured}
