"""Quantiles of the relative delta are numpy's, beside what was promised."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gradgene.evaluation import completeness_summary


@pytest.mark.parametrize("promised", [True, False])
def test_quantiles(promised: bool) -> None:
    values = np.random.default_rng(0).lognormal(-9, 2, 137)
    summary = completeness_summary(pd.DataFrame({"relative_delta": values}), promised)
    assert summary == {
        "complete": 1.0 if promised else 0.0,
        "relative_delta_p50": np.median(values),
        "relative_delta_p99": np.percentile(values, 99),
        "relative_delta_max": np.sort(values)[-1],
    }
    assert len(set(summary.values())) == 4


def test_no_pairs() -> None:
    summary = completeness_summary(pd.DataFrame({"relative_delta": pd.Series(dtype=float)}), True)
    assert summary.pop("complete") == 1.0
    assert set(summary) == {"relative_delta_p50", "relative_delta_p99", "relative_delta_max"}
    assert all(np.isnan(v) for v in summary.values())
