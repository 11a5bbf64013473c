"""Quantiles of the relative delta are numpy's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradgene.evaluation import completeness_summary


def test_quantiles() -> None:
    values = np.random.default_rng(0).lognormal(-9, 2, 137)
    summary = completeness_summary(pd.DataFrame({"relative_delta": values}))
    assert summary == {
        "relative_delta_p50": np.median(values),
        "relative_delta_p99": np.percentile(values, 99),
        "relative_delta_max": np.sort(values)[-1],
    }
    assert len(set(summary.values())) == 3


def test_no_pairs() -> None:
    summary = completeness_summary(pd.DataFrame({"relative_delta": pd.Series(dtype=float)}))
    assert set(summary) == {"relative_delta_p50", "relative_delta_p99", "relative_delta_max"}
    assert all(np.isnan(v) for v in summary.values())
