"""Figures: what is drawn where, and that drawing leaves no trace."""

from __future__ import annotations

import sys
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from gradgene import plotting
from gradgene.errors import OutputError
from gradgene.plotting import curves as curves_module
from gradgene.plotting import palette
from tests.reports.synthetic import (
    RANKINGS,
    curves_table,
    gene_table,
    history_table,
    pair_table,
)


def scores(n: int = 2000) -> pd.DataFrame:
    return gene_table(n).dropna(subset=["rank"])


def line(ax: Axes, gid: str) -> np.ndarray:
    """The points of the line with this id."""
    (found,) = [li for li in ax.lines if li.get_gid() == gid]
    return np.asarray(found.get_xydata(), dtype=float)


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def box_of(text: Text) -> Bbox:
    text.get_window_extent()  # an annotation finds its place only here
    return Text.get_window_extent(text)


def all_figures() -> list[Figure]:
    genes, curves = scores(300), curves_table()
    return [
        plotting.training_curves(history_table()),
        plotting.score_distribution(genes["score"].to_numpy(), "Scores"),
        plotting.scores_by_gene(genes["score"].to_numpy(), genes["gene"].tolist()),
        plotting.top_genes(genes),
        plotting.pruning_curves(curves, "lowest_first"),
        plotting.completeness(pair_table()),
    ]


def test_drawing_leaves_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    had_pyplot = "matplotlib.pyplot" in sys.modules
    figures = all_figures()
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert len({id(figure) for figure in figures}) == len(figures)


def test_inputs_are_not_changed() -> None:
    curves, genes = curves_table(), scores(100)
    kept = curves.copy(), genes.copy()
    plotting.pruning_curves(curves, "highest_first")
    plotting.top_genes(genes)
    pd.testing.assert_frame_equal(curves, kept[0])
    pd.testing.assert_frame_equal(genes, kept[1])


def test_every_axis_is_labelled() -> None:
    for figure in all_figures():
        for ax in figure.axes:
            assert ax.get_xlabel()
            assert ax.get_ylabel() or ax.get_title(loc="left").endswith("genes")


def test_training_curves_join_sparse_rows() -> None:
    figure = plotting.training_curves(history_table())
    loss, accuracy = figure.axes
    assert [len(li.get_xdata()) for li in loss.lines] == [8, 8]  # type: ignore[arg-type]
    assert len(accuracy.lines) == 1
    assert "nats" in loss.get_ylabel()


def test_training_curves_draw_what_there_is() -> None:
    figure = plotting.training_curves(history_table()[["epoch", "train/loss"]])
    assert len(figure.axes) == 1
    one = plotting.training_curves(pd.DataFrame({"epoch": [0], "val/loss": [0.3]}))
    one.draw_without_rendering()


@pytest.mark.parametrize(
    "history", [pd.DataFrame({"step": [1]}), pd.DataFrame({"epoch": [1], "lr": [0.1]})]
)
def test_training_curves_without_metrics_say_so(history: pd.DataFrame) -> None:
    with pytest.raises(OutputError, match="training history"):
        plotting.training_curves(history)


@pytest.mark.parametrize("sign", [1, -1])
def test_percentile_lines_are_at_the_percentiles(sign: int) -> None:
    values = sign * scores()["score"].to_numpy()
    figure = plotting.score_distribution(values, "Scores")
    (ax,) = figure.axes
    low, high = np.percentile(values, [1, 99])
    assert line(ax, "p1")[:, 0] == pytest.approx(low)
    assert line(ax, "p99")[:, 0] == pytest.approx(high)
    assert f"{high:+.3g}".replace("-", "−") in words(figure)
    assert sum(patch.get_height() for patch in ax.patches) == len(values)  # type: ignore[attr-defined]
    assert ax.get_yscale() == "symlog"
    figure.draw_without_rendering()
    labels = [box_of(text) for text in ax.texts]
    assert not labels[0].overlaps(labels[1])
    assert all(ax.get_window_extent().x0 <= box.x0 <= box.x1 <= ax.bbox.x1 for box in labels)


def test_distribution_of_one_value_and_of_nothing() -> None:
    plotting.score_distribution(np.zeros(5), "Zeros").draw_without_rendering()
    plotting.score_distribution(np.array([1.0, np.nan, 2.0]), "Gap").draw_without_rendering()
    with pytest.raises(OutputError, match="nothing to draw"):
        plotting.score_distribution(np.array([np.nan]), "Empty")


def test_outliers_are_named_without_overlap() -> None:
    frame = scores()
    figure = plotting.scores_by_gene(frame["score"].to_numpy(), frame["gene"].tolist(), 12)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    names = [text for text in ax.texts if "percentile" not in text.get_text()]
    best = frame["score"].abs().nlargest(12).index
    assert {text.get_text() for text in names} <= set(frame.loc[best, "gene"])
    assert len(names) >= 10 and "ISG15" in words(figure)
    boxes = [box_of(text) for text in names]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert line(ax, "p1")[:, 1] == pytest.approx(np.percentile(frame["score"], 1))
    assert line(ax, "p99")[:, 1] == pytest.approx(np.percentile(frame["score"], 99))


def test_scores_and_genes_must_match() -> None:
    with pytest.raises(OutputError, match="differ in length"):
        plotting.scores_by_gene(np.zeros(3), ["A", "B"])
    plotting.scores_by_gene(np.zeros(3), ["A", "B", "C"]).draw_without_rendering()


def test_top_genes_in_order_with_whiskers_and_colours() -> None:
    frame = scores(200)
    figure = plotting.top_genes(frame.sample(frac=1, random_state=0), n=10)
    (ax,) = figure.axes
    best = frame.sort_values("rank").head(10)
    assert [label.get_text() for label in ax.get_yticklabels()] == best["gene"].tolist()
    assert ax.yaxis_inverted()
    widths = [patch.get_width() for patch in ax.patches[:10]]  # type: ignore[attr-defined]
    assert widths == pytest.approx(best["score"].tolist())
    colours = [to_hex(patch.get_facecolor()).upper() for patch in ax.patches[:10]]
    assert colours == [plotting.PALETTE[d] for d in best["direction"]]
    (whiskers,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    ends = np.array(whiskers.get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, best[["ci_low", "ci_high"]].to_numpy(dtype=float))
    legend = ax.get_legend()
    assert legend is not None and len(legend.get_texts()) == 2


def test_top_genes_take_signs_nulls_and_odd_names() -> None:
    frame = pd.DataFrame(
        {"gene": ["$A$", "B_{", "C"], "score": [3.0, 2, 1], "rank": [1, 2, 3]}
        | {"direction": [1.0, -1.0, np.nan], "ci_low": [np.nan] * 3, "ci_high": [np.nan] * 3}
    )
    figure = plotting.top_genes(frame)
    assert "$A$" in words(figure)
    figure.draw_without_rendering()
    with pytest.raises(OutputError, match="'rank'"):
        plotting.top_genes(frame.drop(columns="rank"))


@pytest.mark.parametrize("order", ["lowest_first", "highest_first"])
def test_pruning_curves(order: str) -> None:
    curves = curves_table()
    figure = plotting.pruning_curves(curves, order, chance=0.5)
    (ax,) = figure.axes
    assert ax.get_title(loc="left").lower() == plotting.ORDER_NAMES[order]
    for ranking in RANKINGS:
        rows = curves[(curves["ranking"] == ranking) & (curves["order"] == order)]
        mean = rows.groupby("ratio")["value"].mean()
        drawn = line(ax, f"ranking:{ranking}")
        np.testing.assert_allclose(drawn, np.column_stack([mean.index, mean]))
    assert line(ax, "chance")[:, 1] == pytest.approx(0.5)
    figure.draw_without_rendering()
    labels = [t for t in ax.texts if t.get_text().split(" ")[0] in RANKINGS]
    assert len(labels) == len(RANKINGS)
    assert "random (mean of 10)" in words(figure)
    assert not any(a.overlaps(b) for a, b in combinations(map(box_of, labels), 2))


def test_random_band_is_from_lowest_to_highest_draw() -> None:
    curves = curves_table()
    curves = curves[curves["ranking"] == "random"]
    figure = plotting.pruning_curves(curves, "lowest_first")
    (band,) = figure.axes[0].collections
    drawn = band.get_paths()[0].get_extents()
    chosen = curves.loc[curves["order"] == "lowest_first", "value"]
    assert (drawn.y0, drawn.y1) == pytest.approx((chosen.min(), chosen.max()))


def test_bands_only_where_they_can_be_told_apart() -> None:
    curves = curves_table()
    many = plotting.pruning_curves(curves, "lowest_first").axes[0].collections
    assert len(many) == 2
    few = curves[curves["ranking"].isin(["deeplift/forward", "hvg", "deg"])]
    assert len(plotting.pruning_curves(few, "lowest_first").axes[0].collections) == 3
    bare = few.drop(columns=["ci_low", "ci_high", "draw"])
    assert not plotting.pruning_curves(bare, "lowest_first").axes[0].collections


def test_a_leaking_ranking_is_marked() -> None:
    assert "leaks" not in words(plotting.pruning_curves(curves_table(), "lowest_first"))
    leaking = curves_table(rank_source="per_pair")
    assert "leaks" in words(plotting.pruning_curves(leaking, "lowest_first"))


def test_close_ratios_stretch_the_axis() -> None:
    curves = curves_table()
    assert "stretched" in plotting.pruning_curves(curves, "lowest_first").axes[0].get_xlabel()
    even = curves[curves["ratio"].isin([0.0, 0.5, 0.95])]
    assert "stretched" not in plotting.pruning_curves(even, "lowest_first").axes[0].get_xlabel()
    grid = curves[curves["ranking"] == "hvg"].iloc[:1]
    full = pd.concat([grid.assign(ratio=r, order="highest_first") for r in (0, 0.02, 0.05, 0.99)])
    plotting.pruning_curves(full, "highest_first").draw_without_rendering()
    alone = plotting.pruning_curves(grid, "lowest_first")
    alone.draw_without_rendering()


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (curves_module._log_kept, curves_module._from_log_kept),
        (curves_module._log_removed, curves_module._from_log_removed),
    ],
)
def test_stretching_can_be_undone(there, back) -> None:  # type: ignore[no-untyped-def]
    ratios = np.array([0, 0.02, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(back(there(ratios)), ratios, atol=1e-12)
    assert (np.diff(there(ratios)) > 0).all()


def test_unknown_order_names_what_exists() -> None:
    with pytest.raises(OutputError, match="lowest_first"):
        plotting.pruning_curves(curves_table(), "lowest")
    with pytest.raises(OutputError, match="arm 'input'"):
        plotting.pruning_curves(curves_table(), "lowest_first", arm="input")


def test_roles_keep_their_colours() -> None:
    styles = plotting.ranking_styles(list(RANKINGS))
    assert styles["deeplift/forward"]["color"] == plotting.PALETTE["main"]
    for control in ("hvg", "deg", "expression", "random"):
        assert styles[control]["color"] == plotting.PALETTE[control]
    looks = {(str(s["color"]), str(s["linestyle"]), s["linewidth"]) for s in styles.values()}
    assert len(looks) == len(RANKINGS)
    other = plotting.ranking_styles(list(RANKINGS), main="grad_x_delta/contrast")
    assert other["grad_x_delta/contrast"]["color"] == plotting.PALETTE["main"]
    assert other["deeplift/forward"]["color"] != plotting.PALETTE["main"]
    assert plotting.ranking_styles(["hvg", "random"])["hvg"]["color"] == plotting.PALETTE["hvg"]


def test_roles_differ() -> None:
    roles = ["main", *palette.CONTROLS]
    colours = [*(plotting.PALETTE[role] for role in roles), *plotting.COMPARED]
    assert len(set(colours)) == len(colours)


def test_spread_moves_little_and_keeps_apart() -> None:
    assert curves_module.spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert curves_module.spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    crowded = curves_module.spread([0.97, 0.98, 0.99, 1.0], 0.1)
    assert crowded == pytest.approx([0.7, 0.8, 0.9, 1.0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        places = curves_module.spread(sorted(rng.random(8)), 0.08)
        assert min(np.diff(places)) >= 0.08 - 1e-9
        assert min(places) >= -1e-9 and max(places) <= 1 + 1e-9


def test_completeness_percentiles_and_zeros() -> None:
    delta = np.geomspace(1e-8, 1e-5, 200)
    figure = plotting.completeness(pd.DataFrame({"relative_delta": delta}))
    (ax,) = figure.axes
    assert line(ax, "p50")[:, 0] == pytest.approx(np.percentile(delta, 50))
    assert line(ax, "p99")[:, 0] == pytest.approx(np.percentile(delta, 99))
    assert ax.get_xscale() == "log"
    zeros = plotting.completeness(pd.DataFrame({"relative_delta": [0.0, 0.0, np.nan]}))
    zeros.draw_without_rendering()
    assert "2 pairs" in words(zeros)
    with pytest.raises(OutputError, match="relative_delta"):
        plotting.completeness(pd.DataFrame({"pair": [0]}))
