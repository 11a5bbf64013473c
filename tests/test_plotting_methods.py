"""Figures of methods: the most faithful on top, controls grey, lines where they were fitted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from gradgene.errors import OutputError
from gradgene.plotting import memory_by_length, method_comparison

METHODS = pd.DataFrame(
    {
        "method": ["deeplift", "random", "captum_deeplift"],
        "seconds_per_pair": [0.4, 0.01, 1.5],
        "delta_median": [0.0, 2.0, 1.0],
        "delta_max": [1e-6, 5.0, 3.0],
        "gap": [1.0, 0.02, 0.6],
        "gap_low": [0.9, np.nan, 0.5],
        "gap_high": [1.1, np.nan, 0.7],
    }
)
RUNS = pd.DataFrame(
    {
        "n_genes": [500, 1000, 500, 1000],
        "n_layers": [2, 2, 4, 4],
        "added_mb": [600, 1100, 700, 1300],
    }
)


def test_the_most_faithful_method_is_on_top() -> None:
    figure = method_comparison(METHODS)
    gaps, deltas, times = figure.axes
    assert [text.get_text() for text in gaps.get_yticklabels()] == [
        "random",
        "captum_deeplift",
        "deeplift",
    ]
    widths = [bar.get_width() for bar in gaps.patches if isinstance(bar, Rectangle)]
    assert widths == [0.02, 0.6, 1.0]
    assert deltas.get_xscale() == times.get_xscale() == "log"
    colours = [bar.get_facecolor() for bar in gaps.patches]
    assert colours[0] == colours[1] != colours[2]
    assert all(ax.get_title(loc="left") and ax.get_xlabel() for ax in figure.axes)


def test_a_method_table_without_a_gap_is_refused() -> None:
    with pytest.raises(OutputError, match="nothing to draw"):
        method_comparison(METHODS.assign(gap=np.nan))
    with pytest.raises(OutputError, match="delta_max"):
        method_comparison(METHODS.drop(columns="delta_max"))


@pytest.mark.parametrize("measured", [None, 5000.0])
def test_memory_lines_go_to_the_full_size(measured: float | None) -> None:
    (ax,) = memory_by_length(RUNS, np.array([100, 1, 0.1]), (3500, 12, measured)).axes
    ends = {line.get_label(): line.get_ydata()[-1] for line in ax.lines}  # type: ignore[index]
    expected = [(100 + 3500 * (1 + 0.1 * n)) / 1024 for n in (2, 4, 12)]
    assert list(ends) == ["2 layers", "4 layers", "12 layers, extrapolated"]
    assert list(ends.values()) == pytest.approx(expected)
    assert ("measured" in ax.get_legend_handles_labels()[1]) == (measured is not None)


def test_memory_without_runs_is_refused() -> None:
    with pytest.raises(OutputError, match="nothing to draw"):
        memory_by_length(RUNS.iloc[:0], np.zeros(3), (3500, 12, None))
