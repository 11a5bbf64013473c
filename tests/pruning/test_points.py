"""Points of curves where cases and controls are different donors, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.pruning import Arms, Point, PruningCurve, curve_of

AT = {"ranking": "a/b", "draw": 0, "order": "lowest_first", "ratio": 0.5}
FACTS = {"rank_source": "per_pair", "split": "test", "seed": 0}
Donors = dict[str, tuple[float, ...]]
#: Donor -> probability of "case" of its two cells.
CASES: Donors = {"a": (0.9, 0.6), "b": (0.8, 0.2), "c": (0.7, 0.55), "d": (0.3, 0.45)}
CONTROLS: Donors = {"x": (0.1, 0.4), "y": (0.35, 0.65), "z": (0.15, 0.25)}


def pruned(cases: Donors, controls: Donors) -> tuple[Any, pd.DataFrame]:
    """The point of these cells: (arm, metric) -> its row, and the values of donors."""
    donors = [(donor, p, label) for label, of in enumerate((cases, controls))
              for donor, mine in of.items() for p in mine]  # fmt: skip
    names, p_n, truth_n = (np.array(column) for column in zip(*donors, strict=True))
    p_nc = np.stack([p_n, 1 - p_n], axis=1)
    arms = Arms(truth_n, names, ("case", "control"), "case", "control")
    made: PruningCurve = curve_of([Point(AT, p_nc, arms.true(p_nc))], arms, FACTS)
    assert made.by_donor is not None
    return made.frame.set_index(["arm", "metric"]), made.by_donor


def contributions(metric: str) -> tuple[np.ndarray, np.ndarray]:
    """What each donor contributes, counted cell by cell."""
    p_case, p_control = np.concatenate([*CASES.values()]), np.concatenate([*CONTROLS.values()])
    if metric == "balanced_accuracy":
        cases = [np.mean(np.array(p) > 0.5) for p in CASES.values()]
        return np.array(cases), np.array([np.mean(np.array(p) < 0.5) for p in CONTROLS.values()])
    cases = [np.mean([one > other for one in p for other in p_control]) for p in CASES.values()]
    controls = [np.mean([one < other for one in p for other in p_case]) for p in CONTROLS.values()]
    return np.array(cases), np.array(controls)


@pytest.mark.parametrize(("metric", "weight"), [("balanced_accuracy", 0.5), ("auroc", 1)])
def test_donors_of_one_label_each_give_welchs_interval(metric: str, weight: float) -> None:
    """Donors have equally many cells here, so that the value is the middle of the interval."""
    frame, by_donor = pruned(CASES, CONTROLS)
    u, v = contributions(metric)
    welch = stats.ttest_ind(u, -v, equal_var=False).confidence_interval()
    middle, reach = (u.mean() + v.mean()) / 2, (welch.high - welch.low) / 2 * weight
    row = frame.loc[("both", metric)]
    assert row["value"] == pytest.approx(middle)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((middle - reach, middle + reach))
    assert row["n_donors"] == 7
    own = "accuracy" if weight == 0.5 else "auroc"
    for arm, expected in (("input", u), ("baseline", v)):
        mine = by_donor[(by_donor["arm"] == arm) & (by_donor["metric"] == own)]
        assert mine["value"].to_numpy() == pytest.approx(expected)
    assert set(by_donor["rank_source"]) == {"per_pair"}


def test_two_donors_of_a_side_give_no_interval() -> None:
    frame, _ = pruned(CASES, {donor: CONTROLS[donor] for donor in "xy"})
    both = frame.loc["both"].loc[["balanced_accuracy", "auroc"]]
    assert both[["ci_low", "ci_high"]].isna().all(axis=None) and (both["n_donors"] == 0).all()


def test_counts_of_both_labels_have_no_interval_over_donors_of_one() -> None:
    frame, _ = pruned(CASES, CONTROLS)
    counted = frame.loc["both"].loc[["f1", "precision"]]
    assert counted["ci_low"].isna().all() and (counted["n_donors"] == 0).all()


def test_three_donors_of_both_labels_are_replicates_themselves() -> None:
    """Each donor's own value, as it was before there were sides."""
    both = {donor: CASES[donor] for donor in "abc"}
    frame, by_donor = pruned(both, dict(zip("abc", CONTROLS.values(), strict=True)))
    for metric in ("balanced_accuracy", "auroc"):
        here = by_donor[(by_donor["arm"] == "both") & (by_donor["metric"] == metric)]["value"]
        low, high = stats.t.interval(0.95, 2, loc=here.mean(), scale=stats.sem(here))
        row = frame.loc[("both", metric)]
        assert (row["ci_low"], row["ci_high"], row["n_donors"]) == pytest.approx((low, high, 3))
