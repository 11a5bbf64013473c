"""Figures of planted truth: the best on top, importances that agree in one row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from gradgene.errors import OutputError
from gradgene.plotting.truth import truth_by_arm, truth_overview

SEEDS = pd.DataFrame(
    {
        "ranking": ["deg", "deg", "deeplift/forward", "deeplift/forward", "random", "random"],
        "method": ["deg", "deg", "deeplift", "deeplift", "random", "random"],
        "auprc": [0.6, 0.7, 0.9, 0.8, 0.3, 0.2],
        "chance_auprc": 0.25,
        "xor_recall": [np.nan, 0.1, np.nan, 1.0, np.nan, 0.0],
        "decoys_top10": [0, 1, 0, 0, 3, 2],
    }
)


def row(arm: str, method: str, importance: str, auprc: float) -> dict[str, object]:
    ends = {"auprc_min": auprc - 0.1, "auprc_max": auprc + 0.05}
    return {"arm": arm, "method": method, "importance": importance, "auprc": auprc, **ends}


SUMMARY = pd.DataFrame(
    [
        row("cell_state", "deeplift", "forward", 0.9),
        row("cell_state", "deeplift", "forward/abs", 0.8),
        row("cell_state", "deeplift", "contrast", 0.9),
        row("cell_state", "deeplift", "backward", 0.1),
        row("cell_state", "random", "forward", 0.2),
        row("empty", "deeplift", "forward", 0.7),
        row("empty", "deeplift", "backward", 0.1),
        row("none", "deg", "", 0.65),
    ]
)


def names(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_yticklabels()]


def test_the_best_ranking_is_on_top_and_each_seed_a_dot() -> None:
    figure = truth_overview(SEEDS)
    truth, xor, decoys = figure.axes
    assert names(truth) == ["random", "deg", "deeplift/forward"]
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in truth.collections])
    for name, method in enumerate(("random", "deg", "deeplift")):
        mine = SEEDS.loc[SEEDS["method"] == method, "auprc"]
        expected = sorted([*mine, mine.median()])
        assert sorted(drawn[drawn[:, 1] == name, 0]) == pytest.approx(expected)
    lines = [float(np.asarray(line.get_xdata())[0]) for line in truth.lines]
    assert lines == pytest.approx([0.65, 0.25])  # deg's median, and chance
    assert all(ax.get_title(loc="left") and ax.get_xlabel() for ax in (truth, xor, decoys))


def test_no_pair_learnt_leaves_an_empty_panel() -> None:
    xor = truth_overview(SEEDS.assign(xor_recall=np.nan)).axes[1]
    assert not xor.lines and all(not len(np.asarray(c.get_offsets())) for c in xor.collections)


def test_importances_that_agree_share_a_row() -> None:
    figure = truth_by_arm(SUMMARY)
    state, empty = figure.axes
    assert names(state) == ["random: forward", "contrast, forward", "deeplift: backward"]
    assert state.get_title(loc="left") == "matched cell"
    dots = np.concatenate([np.asarray(c.get_offsets()) for c in empty.collections if len(
        np.asarray(c.get_offsets())) and c.get_paths()])  # fmt: skip
    assert {0.7, 0.1} <= set(dots[:, 0].round(9))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(OutputError, match="chance_auprc"):
        truth_overview(SEEDS.drop(columns="chance_auprc"))
    with pytest.raises(OutputError, match="nothing to draw"):
        truth_overview(SEEDS.iloc[:0])
    with pytest.raises(OutputError, match="nothing to draw"):
        truth_by_arm(SUMMARY[SUMMARY["importance"] == ""])
