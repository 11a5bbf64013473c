"""Rows of the table: values, intervals and what these are over."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from gradgene.errors import ConfigError
from gradgene.evaluation import MEASURES, Faithfulness, Units, measured

INPUTS = np.arange(6)
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)


def test_a_mean_with_a_t_interval_over_donors() -> None:
    units = Units(INPUTS, np.array([0, 0, 1, 1, 2, 2]))
    row = measured("m", "aopc", VALUES, None, units, 7)
    reach = stats.t.ppf(0.975, 2) * np.std([1.5, 3.5, 5.5], ddof=1) / math.sqrt(3)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((3.5 - reach, 3.5 + reach))
    assert row["value"] == 3.5 and row["interval_over"] == "donors"
    assert (row["n_pairs"], row["n_donors"], row["seed"]) == (6, 3, 7)
    assert row["higher_is_better"] is True


def test_a_ratio_of_sums() -> None:
    row = measured("m", "infidelity_scaled", VALUES, 2 * VALUES, Units(INPUTS), 0)
    assert row["value"] == 0.5 and row["ci_low"] == pytest.approx(0.5) == row["ci_high"]
    assert row["higher_is_better"] is False


@pytest.mark.parametrize("donors", [None, np.array([0, 0, 0, 1, 1, 1])])
def test_without_three_donors_it_is_over_input_cells(donors: np.ndarray | None) -> None:
    """Pairs of one input cell are no replicates: three cells of two pairs each."""
    units = Units(np.array([4, 4, 9, 9, 2, 2]), donors)
    row = measured("m", "aopc", VALUES, None, units, 0)
    reach = stats.t.ppf(0.975, 2) * np.std([1.5, 3.5, 5.5], ddof=1) / math.sqrt(3)
    assert row["ci_high"] == pytest.approx(3.5 + reach)
    assert row["interval_over"] == "input cells"
    assert row["n_donors"] == (0 if donors is None else 2)


def test_pairs_without_a_value_are_left_out() -> None:
    values = VALUES.clone()
    values[5] = torch.nan
    row = measured("m", "aopc", values, None, Units(INPUTS), 0)
    assert row["value"] == 3 and row["n_pairs"] == 5
    nothing = measured("m", "aopc", VALUES * torch.nan, None, Units(INPUTS), 0)
    assert math.isnan(nothing["value"]) and math.isnan(nothing["ci_low"])


def test_every_measure_says_what_it_asks_and_whose_it_is() -> None:
    for measure in MEASURES.values():
        assert measure.asks and measure.source and measure.arrow in "↑↓"


@pytest.mark.parametrize(
    ("name", "value"), [("max_pairs", 0), ("n_sets", 0), ("n_draws", 0), ("n_searched", -1)]
)
def test_settings_out_of_range_are_refused(name: str, value: int) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"evaluation.faithfulness.{name}"):
        Faithfulness(**settings)
