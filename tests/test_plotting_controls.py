"""Figures of controls, stability and agreement: what is drawn is what the tables say."""

from __future__ import annotations

import numpy as np
import pytest

from gradgene.errors import OutputError
from gradgene.evaluation.agreement import disputed
from gradgene.plotting import (
    disputed_genes,
    donor_stability,
    pair_stability,
    ranking_agreement,
    sanity_checks,
)
from tests.reports.controls import rankings, sanity, stability


def test_the_cascade_begins_at_the_trained_model_and_ends_where_nothing_is_left() -> None:
    table = sanity()
    figure = sanity_checks(table)
    left, right = figure.axes
    bold = {
        line.get_label(): line for line in left.lines if not str(line.get_label()).startswith("_")
    }
    y = np.asarray(bold["scores"].get_ydata(), dtype=float)
    last = table[(table["check"] == "randomisation") & (table["depth"] == 4)]["spearman"]
    assert (y[0], y[-1]) == (1, pytest.approx(last.median()))
    assert [t.get_text() for t in left.get_xticklabels()] == [
        "trained",
        "+ head",
        "+ block 2",
        "+ block 1",
        "+ embeddings = all",
    ]
    names = [t.get_text() for t in right.get_xticklabels()]
    assert names == ["two halves", "shuffled, by gene", "shuffled, by values"]  # none permuted
    bands = [patch for patch in left.patches if patch.get_gid() == "sane"]
    assert bands[0].get_extents().height > 0


def test_a_cascade_without_numbers_is_refused() -> None:
    table = sanity()
    with pytest.raises(OutputError, match="finite"):
        sanity_checks(table.assign(spearman=np.nan))
    with pytest.raises(OutputError, match="threshold"):
        sanity_checks(table.drop(columns="threshold"))


def test_the_curve_over_pairs() -> None:
    table = stability().query("kind == 'pairs'")
    figure = pair_stability(table, 10, top_k=10)
    left, right = figure.axes
    line = next(line for line in left.lines if len(np.asarray(line.get_xydata())) == 3)
    assert np.asarray(line.get_ydata()) == pytest.approx(
        table.groupby("n_pairs")["spearman"].mean().to_numpy()
    )
    assert [line for line in right.lines if line.get_gid() == "enough"]
    assert any(np.allclose(line.get_ydata(), 10 / 40) for line in right.lines)  # chance
    assert not [line for line in pair_stability(table).axes[0].lines if line.get_gid()]


def test_a_row_a_donor_the_weightiest_on_top() -> None:
    figure = donor_stability(stability().query("kind == 'donors'"))
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["d0", "d1"]
    assert len(figure.axes[0].collections) == 2


def test_two_triangles_of_agreement() -> None:
    agreed, _ = rankings()
    names = list(agreed["first"].unique())
    figure = ranking_agreement(agreed, names, names[0])
    drawn = np.asarray(figure.axes[0].images[0].get_array(), dtype=float)
    wide = agreed.pivot(index="first", columns="second", values="spearman").loc[names, names]
    shared = agreed.pivot(index="first", columns="second", values="top_overlap").loc[names, names]
    below, above = np.tril_indices(6, -1), np.triu_indices(6, 1)
    assert drawn[below] == pytest.approx(wide.to_numpy()[below])
    assert drawn[above] == pytest.approx(shared.to_numpy()[above])
    assert figure.axes[0].get_yticklabels()[0].get_fontweight() == "bold"
    with pytest.raises(OutputError, match="nothing to draw"):
        ranking_agreement(agreed, names[:1])


def test_disputed_genes_have_a_mark_a_method() -> None:
    _, voted = rankings()
    rows = disputed(voted, 4)
    figure = disputed_genes(rows)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == rows["gene"].tolist()[::-1]
    assert len(figure.axes[0].collections) == 1 + 3
    with pytest.raises(OutputError, match="nothing to draw"):
        disputed_genes(rows[:0])
