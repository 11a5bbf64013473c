"""The heat map of interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from gradgene.errors import OutputError
from gradgene.plotting import interaction_map

TABLE = pd.DataFrame(
    {
        "gene_a": ["a", "a", "b"],
        "gene_b": ["b", "$c$", "$c$"],
        "interaction": [0.1, -2.0, 0.5],
        "excess": [0.2, -1.5, 0.0],
        "p_adjusted": [0.5, 0.01, np.nan],
    }
)


def values_of(figure: Figure) -> np.ndarray:
    shown: Any = figure.axes[0].images[0].get_array()
    return np.asarray(np.ma.filled(shown, np.nan))


def marked(figure: Figure) -> list[list[float]]:
    """(column, row) of the fields with a dot."""
    offsets: Any = figure.axes[0].collections[0].get_offsets()
    return [[float(x), float(y)] for x, y in offsets]


def test_interactions_below_and_excess_above() -> None:
    """Genes in the order in which their strongest excess comes: a and $c$ first."""
    figure = interaction_map(TABLE)
    ax = figure.axes[0]
    names = [text.get_text() for text in ax.get_xticklabels()]
    assert names == [text.get_text() for text in ax.get_yticklabels()] == ["a", "$c$", "b"]
    nan = np.nan
    np.testing.assert_array_equal(
        values_of(figure), [[nan, -1.5, 0.2], [-2.0, nan, 0.0], [0.1, 0.5, nan]]
    )
    assert ax.images[0].get_clim() == (-2.0, 2.0)
    assert marked(figure) == [[1.0, 0.0]]  # above the diagonal


def test_a_given_order_and_no_test() -> None:
    table = TABLE.assign(p_adjusted=np.nan)
    figure = interaction_map(table, ["b", "a", "$c$"])
    assert values_of(figure)[1, 0] == 0.1
    assert not marked(figure)
    assert "permuted" not in figure.axes[0].get_xlabel()
    assert "permuted" in interaction_map(TABLE).axes[0].get_xlabel()


def test_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(OutputError, match="nothing to draw"):
        interaction_map(TABLE.assign(interaction=np.nan))
    with pytest.raises(OutputError, match="excess"):
        interaction_map(TABLE.drop(columns="excess"))
