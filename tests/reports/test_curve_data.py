"""The pruning curves as values for the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.plotting import PALETTE, ratio_places
from gradgene.reports import RunFiles
from gradgene.reports.curve_data import MARKERS, curve_charts
from tests.reports.synthetic import RANKINGS, RATIOS, curves_table, write_run


def charts(folder: Path, curves: pd.DataFrame, n: int = 20) -> dict:
    run = RunFiles.read(write_run(folder, {"pruning/curves.parquet": curves}, n_genes=n))
    found = curve_charts(run)
    assert found is not None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_values_are_those_of_the_curves(tmp_path: Path) -> None:
    curves = curves_table()
    found = charts(tmp_path, curves)
    assert [chart["order"] for chart in found["charts"]] == list(RATIOS)
    (least, _) = found["charts"]
    assert least["ratios"] == RATIOS["lowest_first"] and "stretched" in least["axis"]
    assert least["places"][0] == 0 and least["places"][-1] == 1
    (measure,) = least["measures"]
    assert measure["name"] == "Balanced accuracy" and measure["chance"] == 0.5
    assert set(measure["curves"]) == set(RANKINGS)
    at = curves[(curves["order"] == "lowest_first") & (curves["ratio"] == 0.9)]
    (row,) = at[at["ranking"] == "deg"].to_dict("records")
    point = measure["curves"]["deg"][3]
    assert point[0] == 3 and point[4:] == [400, 2, 1]
    assert point[1:4] == pytest.approx([row["value"], row["ci_low"], row["ci_high"]], rel=1e-3)
    draws = at.loc[at["ranking"] == "random", "value"]
    wanted = [draws.mean(), draws.min(), draws.max()]
    point = measure["curves"]["random"][3]
    assert point[1:4] == pytest.approx(wanted, rel=1e-3) and point[-1] == 10


def test_styles_are_those_of_the_figures_and_differ_in_more_than_colour(tmp_path: Path) -> None:
    styles = charts(tmp_path, curves_table())["styles"]
    assert next(iter(styles)) == "deeplift/forward", "the ranking of the run comes first"
    assert styles["deeplift/forward"]["colour"] == PALETTE["main"]
    assert styles["hvg"]["colour"] == PALETTE["hvg"]
    seen = {(s["colour"], tuple(s["dash"]), s["marker"]) for s in styles.values()}
    assert len(seen) == len(RANKINGS) and {s["marker"] for s in styles.values()} == {*MARKERS}
    assert all(style["shown"] for style in styles.values())


def test_a_crowd_is_there_but_not_drawn_at_first(tmp_path: Path) -> None:
    curves = curves_table()
    own = curves[curves["ranking"] == "deeplift/forward"]
    more = [own.assign(ranking=f"deeplift/backward{i}") for i in range(3)]
    styles = charts(tmp_path, pd.concat([curves, *more]))["styles"]
    assert not styles["deeplift/backward0"]["shown"] and styles["deeplift/forward"]["shown"]


def test_other_measures_may_be_chosen(tmp_path: Path) -> None:
    curves = curves_table()
    arms = [curves.assign(arm=arm, metric="accuracy") for arm in ("input", "baseline")]
    odd = curves.assign(metric="nobody_asked")
    found = charts(tmp_path, pd.concat([curves, *arms, odd]))
    names = [measure["name"] for measure in found["charts"][0]["measures"]]
    assert names == ["Balanced accuracy", "Accuracy, input cells", "Accuracy, baseline cells"]
    assert [m["chance"] for m in found["charts"][0]["measures"]] == [0.5, None, None]


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    curves = curves_table().assign(ci_low=np.nan, ci_high=np.nan, n_donors=None)
    point = charts(tmp_path, curves)["charts"][0]["measures"][0]["curves"]["deg"][0]
    assert point[2:] == [None, None, 400, None, 1]


def test_leaks_are_said(tmp_path: Path) -> None:
    found = charts(tmp_path, curves_table(rank_source="per_pair"))
    assert "leaks the label" in found["charts"][0]["title"]
    assert "each pair" in found["charts"][0]["axis"]
    assert found["styles"]["deeplift/forward (leaks)"]["colour"] == PALETTE["main"]


def test_no_curves_no_charts(tmp_path: Path) -> None:
    assert curve_charts(RunFiles(tmp_path)) is None


def test_places_on_the_axis() -> None:
    places, ticks, stretched = ratio_places(np.array([0, 0.5, 1.0]), "lowest_first", 0.05)
    assert places.tolist() == [0, 0.5, 1] and ticks == [0, 1, 2] and not stretched
    crowded = np.array([0, 0.5, 0.95, 0.96, 0.99])
    places, ticks, stretched = ratio_places(crowded, "lowest_first", 0.06)
    assert stretched and (np.diff(places) > 0).all() and ticks == [0, 1, 3, 4]
    one, _, _ = ratio_places(np.array([0.5]), "lowest_first", 0.05)
    assert one.tolist() == [0]
