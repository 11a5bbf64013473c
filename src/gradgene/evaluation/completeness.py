"""Do the scores of each pair add up to what they explain?"""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["completeness_summary"]


def completeness_summary(pairs: pd.DataFrame) -> dict[str, float]:
    """Median, 99th percentile and maximum of the `relative_delta` of a table of pairs.

    The relative delta is that of `DirectionScores.relative_delta_p`, the larger of the two
    directions; NaN for an empty table.
    """
    values = pairs["relative_delta"].to_numpy(dtype=float)
    if not len(values):
        return dict.fromkeys(
            ("relative_delta_p50", "relative_delta_p99", "relative_delta_max"), float("nan")
        )
    return {
        "relative_delta_p50": float(np.quantile(values, 0.5)),
        "relative_delta_p99": float(np.quantile(values, 0.99)),
        "relative_delta_max": float(values.max()),
    }
