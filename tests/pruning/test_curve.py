"""Points, areas and intervals of pruning curves, by hand."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from gradgene.errors import RankingError
from gradgene.pruning import PruningCurve
from gradgene.pruning.curve import CURVE_COLUMNS, DONOR_COLUMNS, SUMMARY_COLUMNS

RATIOS = (0.0, 0.5, 0.9)


def points(
    ranking: str, values: tuple[float, ...], draw: int = 0, order: str = "lowest_first"
) -> list[dict[str, object]]:
    """Rows of balanced accuracy over both arms at `RATIOS`."""
    fixed = {
        "ranking": ranking,
        "draw": draw,
        "order": order,
        "arm": "both",
        "metric": "balanced_accuracy",
        "ci_low": np.nan,
        "ci_high": np.nan,
        "n_cells": 20,
        "n_donors": 2,
        "rank_source": "held_out",
        "split": "test",
        "seed": 0,
    }
    return [{**fixed, "ratio": r, "value": v} for r, v in zip(RATIOS, values, strict=True)]


def curve(*rows: list[dict[str, object]]) -> PruningCurve:
    """A curve of some rows."""
    return PruningCurve(pd.DataFrame([row for some in rows for row in some])[list(CURVE_COLUMNS)])


MAIN = points("deeplift/forward", (0.9, 0.8, 0.6))
RANDOM = [
    points("random", values, draw)
    for draw, values in enumerate([(0.9, 0.7, 0.5), (0.9, 0.6, 0.5), (0.9, 0.5, 0.5)])
]


def test_value() -> None:
    both = curve(MAIN, *RANDOM, points("random", (0.9, 0.1, 0.2), 0, "highest_first"))
    assert both.value("deeplift/forward", "lowest_first", 0.9) == 0.6
    assert both.value("random", "lowest_first", 0.5) == pytest.approx(0.6)  # mean of draws
    assert both.value("random", "highest_first", 0.5) == 0.1
    assert np.isnan(both.value("deeplift/forward", "highest_first", 0.5))
    assert np.isnan(both.value("deeplift/forward", "lowest_first", 0.5, metric="f1"))


def test_areas_by_hand() -> None:
    table = curve(MAIN, *RANDOM).summary().set_index("ranking")
    # Above the draws at 0, 0.5, 0.9: (0, .1, .1), (0, .2, .1), (0, .3, .1). Trapezoids 0.5 and
    # 0.4 wide: .025 + .04, .05 + .06, .075 + .08.
    areas = np.array([0.065, 0.11, 0.155])
    row = table.loc["deeplift/forward"]
    assert row["area"] == pytest.approx(areas.mean())
    low, high = stats.t.interval(0.95, 2, loc=areas.mean(), scale=stats.sem(areas))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert (row["order"], row["arm"], row["metric"]) == (
        "lowest_first",
        "both",
        "balanced_accuracy",
    )
    assert row["interval_over"] == "draws"
    assert table.loc["random", "area"] == pytest.approx(0)
    # The draws' own areas around their mean: .045, 0, -.045.
    low, high = stats.t.interval(0.95, 2, loc=0, scale=stats.sem([0.045, 0, -0.045]))
    found = table.loc["random", ["ci_low", "ci_high"]]
    assert tuple(found) == pytest.approx((low, high))


def of_donors(ranking: str, values: dict[str, tuple[float, ...]], draw: int = 0) -> pd.DataFrame:
    """The same points of single donors."""
    rows = [
        {**row, "donor": donor} for donor, some in values.items() for row in points(ranking, some)
    ]
    return pd.DataFrame(rows)[list(DONOR_COLUMNS)].assign(draw=draw)


def test_areas_of_three_donors_make_the_interval() -> None:
    donors = {"a": (0.9, 0.8, 0.6), "b": (0.9, 0.9, 0.5), "c": (0.8, 0.6, 0.6)}
    by_donor = pd.concat(
        [
            of_donors("deeplift/forward", {**donors, "d": (0.9, 0.9, np.nan)}),
            of_donors("random", dict.fromkeys("abcd", (0.9, 0.5, 0.4)), 0),
            of_donors("random", dict.fromkeys("abcd", (0.9, 0.7, 0.6)), 1),
        ]
    )
    table = PruningCurve(curve(MAIN, *RANDOM).frame, by_donor).summary().set_index("ranking")
    # Above (.9, .6, .5): (0, .2, .1), (0, .3, 0), (-.1, 0, .1); d has no whole curve.
    areas = np.array([0.05 + 0.06, 0.075 + 0.06, -0.025 + 0.02])
    row = table.loc["deeplift/forward"]
    assert row["area"] == pytest.approx((0.065 + 0.11 + 0.155) / 3)  # of all cells, as before
    low, high = stats.t.interval(0.95, 2, loc=areas.mean(), scale=stats.sem(areas))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high))
    assert (row["interval_over"], row["n_donors"]) == ("donors", 3)
    assert table.loc["random", "interval_over"] == "draws"


def test_two_donors_fall_back_to_draws() -> None:
    by_donor = pd.concat(
        [
            of_donors(name, dict.fromkeys("ab", (0.9, 0.5, 0.4)))
            for name in ("deeplift/forward", "random")
        ]
    )
    table = PruningCurve(curve(MAIN, *RANDOM).frame, by_donor).summary().set_index("ranking")
    row = table.loc["deeplift/forward"]
    assert (row["interval_over"], row["n_donors"]) == ("draws", 2)


def test_two_draws_have_no_interval() -> None:
    table = curve(MAIN, *RANDOM[:2]).summary().set_index("ranking")
    assert table.loc["deeplift/forward", "area"] == pytest.approx((0.065 + 0.11) / 2)
    assert table[["ci_low", "ci_high", "interval_over"]].isna().all(axis=None)


def test_without_random_there_is_no_area() -> None:
    table = curve(MAIN).summary()
    assert table.empty
    assert list(table.columns) == SUMMARY_COLUMNS


def test_orders_are_kept_apart() -> None:
    table = curve(
        MAIN,
        *RANDOM,
        points("deeplift/forward", (0.9, 0.3, 0.2), order="highest_first"),
        points("random", (0.9, 0.7, 0.5), order="highest_first"),
    ).summary()
    area = table.set_index(["ranking", "order"])["area"]
    # Below random by (0, .4, .3): -(0.1 + 0.14).
    assert area["deeplift/forward", "highest_first"] == pytest.approx(-0.24)
    assert area["deeplift/forward", "lowest_first"] == pytest.approx(0.11)


def test_plot() -> None:
    figure = curve(MAIN, *RANDOM).plot()
    assert isinstance(figure, Figure) and figure.axes


def test_to_pandas_is_a_copy() -> None:
    made = curve(MAIN)
    made.to_pandas()["value"] = 0.0
    assert made.value("deeplift/forward", "lowest_first", 0) == 0.9


def test_a_missing_column_is_named() -> None:
    with pytest.raises(RankingError, match="lacks arm, n_cells"):
        PruningCurve(curve(MAIN).frame.drop(columns=["arm", "n_cells"]))


@pytest.mark.parametrize(
    ("metric", "own", "weight"), [("balanced_accuracy", "accuracy", 0.5), ("auroc", "auroc", 1)]
)
def test_donors_of_one_label_each_give_a_two_sided_interval(
    metric: str, own: str, weight: float
) -> None:
    """Area of a donor: what it contributes over random's, over shares 0 to 0.9."""
    gains = {"input": [0.1, 0.2, 0.4], "baseline": [0.0, 0.1, 0.2, 0.5]}
    rows = [
        (name, 0, "lowest_first", ratio, arm, own, f"{arm}{i}", 0.5 + gain * (name == "a/b"), "x")
        for arm, of in gains.items()
        for i, gain in enumerate(of)
        for name in ("a/b", "random")
        for ratio in RATIOS
    ]
    by_donor = pd.DataFrame(rows, columns=DONOR_COLUMNS)
    frame = curve(points("a/b", (0.8, 0.7, 0.7)), *RANDOM).frame
    frame = frame.assign(metric=metric)
    both = pd.DataFrame([{**by_donor.iloc[0], "arm": "both", "metric": metric}])
    summary = PruningCurve(frame, pd.concat([by_donor, both.iloc[:0]])).summary()
    row = summary.set_index("ranking").loc["a/b"]
    u, v = (np.array(gains[arm]) * 0.9 for arm in gains)
    welch = stats.ttest_ind(u, -v, equal_var=False).confidence_interval()
    middle, reach = (u.mean() + v.mean()) / 2, (welch.high - welch.low) / 2 * weight
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((middle - reach, middle + reach))
    assert (row["interval_over"], row["n_donors"]) == ("donors", 7)


def test_random_weights_are_held_against_their_own_whole_panel() -> None:
    """Another model's random curve says nothing of them; the same holds donor by donor."""
    name = "deeplift/forward (random weights)"
    frame = curve(MAIN, points(name, (0.5, 0.9, 1.0)), *RANDOM).frame
    values: dict[str, tuple[float, ...]] = {
        "a": (0.5, 0.7, 0.9),
        "b": (0.4, 0.8, 0.8),
        "c": (0.6, 0.6, 0.6),
    }
    table = PruningCurve(frame, of_donors(name, values)).summary().set_index("ranking")
    assert table["against"].to_dict() == {
        "deeplift/forward": "random",
        name: "whole panel",
        "random": "random",
    }
    assert table.loc[name, "area"] == pytest.approx(0.2 * 0.5 + 0.45 * 0.4)
    areas = np.array([0.05 + 0.3 * 0.4, 0.1 + 0.16, 0])
    low, high = stats.t.interval(0.95, 2, loc=areas.mean(), scale=stats.sem(areas))
    assert tuple(table.loc[name, ["ci_low", "ci_high"]]) == pytest.approx((low, high))
    without_0 = PruningCurve(frame[frame["ratio"] > 0]).summary()
    assert name not in set(without_0["ranking"])


def test_rows_say_where_their_rankings_come_from() -> None:
    frame = curve(MAIN, *RANDOM).frame
    leaking = frame["ranking"] == "deeplift/forward"
    frame["rank_source"] = np.where(leaking, "per_pair", "held_out")
    found = PruningCurve(frame).summary().set_index("ranking")["rank_source"]
    assert found.to_dict() == {"deeplift/forward": "per_pair", "random": "held_out"}


MATCHED = [
    points("random_matched", values, draw)
    for draw, values in enumerate([(0.9, 0.8, 0.5), (0.9, 0.7, 0.4), (0.9, 0.9, 0.6)])
]


def test_areas_to_matched_random_genes() -> None:
    """Areas under the draws: .685, .62, .75 (mean .685); under random's .64, .595, .55."""
    table = curve(MAIN, *RANDOM, *MATCHED).summary().set_index("ranking")
    row = table.loc["deeplift/forward"]
    off = 0.705 - np.array([0.685, 0.62, 0.75])
    low, high = stats.t.interval(0.95, 2, loc=off.mean(), scale=stats.sem(off))
    found = row[["area_to_matched", "matched_low", "matched_high"]]
    assert tuple(found) == pytest.approx((off.mean(), low, high))
    assert row["matched_over"] == "draws"
    # Two rankings that are drawn: both spreads count.
    random = np.array([0.64, 0.595, 0.55])
    welch = stats.ttest_ind([0.685, 0.62, 0.75], random, equal_var=False).confidence_interval()
    matched = table.loc["random_matched"]
    assert matched["area"] == pytest.approx(0.685 - 0.595)
    assert (matched["ci_low"], matched["ci_high"]) == pytest.approx((welch.low, welch.high))
    assert curve(MAIN, *RANDOM).summary()["area_to_matched"].isna().all()


def test_curves_travel_in_an_anndata(tmp_path: Path) -> None:
    """Numbers stay numbers, also where one is missing, and the file reads back the same."""
    made = curve(points("random", (1.0, 0.8, 0.6)), points("deg", (1.0, 0.9, 0.7)))
    missing = made.frame.assign(n_donors=pd.array([pd.NA] * len(made.frame), dtype="Int64"))
    adata = ad.AnnData(np.zeros((2, 1)))
    PruningCurve(missing).to_anndata(adata)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad").uns["gradgene_pruning"]
    assert back["ranking"].tolist() == made.frame["ranking"].tolist()
    np.testing.assert_array_equal(back["value"], made.frame["value"])
    assert back["n_donors"].isna().all() and list(back) == CURVE_COLUMNS
    assert "Int64" in str(missing["n_donors"].dtype), "the curve itself is not changed"
