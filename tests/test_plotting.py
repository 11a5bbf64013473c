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
from gradgene.plotting import distributions, palette, pruning, pruning_lines
from tests.reports.synthetic import (
    RANKINGS,
    curves_table,
    effects_table,
    enrichment_table,
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
        plotting.effect_correlations(effects_table()),
        plotting.enrichment_bars(enrichment_table()),
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
            assert ax.get_ylabel() or ax.get_yticklabels()[0].get_text()


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
@pytest.mark.parametrize("heavy", [True, False])
def test_percentile_lines_are_at_the_percentiles(sign: int, heavy: bool) -> None:
    values = sign * scores()["score"].to_numpy()
    values = values if heavy else sign * np.random.default_rng(0).normal(1, 1, 500)
    figure = plotting.score_distribution(values, "Scores")
    (ax,) = figure.axes
    low, high = np.percentile(values, [1, 99])
    assert line(ax, "p1")[:, 0] == pytest.approx(low)
    assert line(ax, "p99")[:, 0] == pytest.approx(high)
    assert f"{high:+.3g}".replace("-", "−") in words(figure)
    assert sum(patch.get_height() for patch in ax.patches) == len(values)  # type: ignore[attr-defined]
    assert ax.get_yscale() == "symlog"
    assert (ax.get_xscale() == "asinh") is heavy
    assert ("stretched" in ax.get_xlabel()) is heavy
    figure.draw_without_rendering()
    labels = [box_of(text) for text in ax.texts if "percentile" in text.get_text()]
    assert not labels[0].overlaps(labels[1])
    assert all(ax.get_window_extent().x0 <= box.x0 <= box.x1 <= ax.bbox.x1 for box in labels)


@pytest.mark.parametrize("tail", [1.0, 9.9])
def test_light_tails_are_drawn_as_they_are(tail: float) -> None:
    """The 99th percentile is about 1: a maximum of 9.9 is within ten times that, 20 is not."""
    values = np.array([0.0] * 90 + [1.0] * 9 + [tail])
    assert np.percentile(values, 99) < 1.1
    assert plotting.score_distribution(values, "").axes[0].get_xscale() == "linear"
    values[-1] = 20.0
    assert plotting.score_distribution(values, "").axes[0].get_xscale() == "asinh"


def test_bars_of_a_stretched_axis_are_equally_wide_and_hold_the_extremes() -> None:
    values = np.concatenate([np.linspace(-1e-3, 1e-3, 990), -np.geomspace(1, 100, 10)])
    figure = plotting.score_distribution(values, "Scores")
    (ax,) = figure.axes
    bars = [patch for patch in ax.patches if patch.get_gid() is None]
    assert len(bars) == 80
    edges = np.array([bar.get_x() for bar in bars])  # type: ignore[attr-defined]
    placed = ax.transScale.transform(np.column_stack([edges, np.zeros(80)]))[:, 0]
    np.testing.assert_allclose(np.diff(placed), np.diff(placed)[0], rtol=1e-9)
    assert edges[0] == values.min() and bars[0].get_height() >= 1  # type: ignore[attr-defined]
    figure.draw_without_rendering()
    shown = [t.get_text() for t in ax.get_xticklabels() if t.get_text()]
    assert {"0", "−100", "−1"} <= set(shown)
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_zeros_are_counted_and_the_share_of_single_scores_is_said() -> None:
    values = np.array([0.0, 0.0, 1.0, -1.0, np.nan])
    text = words(plotting.score_distribution(values, "Scores", zero_share=0.593))
    assert "2 of 4 genes" in text and "59.3 % of the scores in single pairs" in text
    bare = words(plotting.score_distribution(values, "Scores"))
    assert "2 of 4 genes" in bare and "single pairs" not in bare
    assert "nan" not in words(plotting.score_distribution(values, "", zero_share=float("nan")))


def test_distribution_of_one_value_and_of_nothing() -> None:
    plotting.score_distribution(np.zeros(5), "Zeros").draw_without_rendering()
    plotting.score_distribution(np.array([1.0, np.nan, 2.0]), "Gap").draw_without_rendering()
    mostly = np.zeros(2000)
    mostly[:3] = 1e-4, 1e-3, 1.0
    plotting.score_distribution(mostly, "Both percentiles are 0").draw_without_rendering()
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


def test_leaders_do_not_cross() -> None:
    """Two outliers side by side near the edge, where there is room on one side only."""
    values = np.sin(np.arange(1000)) * 1e-3
    values[990], values[999] = 0.08, 0.1
    names = [f"G{i}" for i in range(1000)]
    names[990], names[999] = "APOBEC3A", "MX1"
    figure = plotting.scores_by_gene(values, names, 2)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    found = {t.get_text(): t for t in ax.texts if "percentile" not in t.get_text()}
    assert set(found) == {"APOBEC3A", "MX1"}
    ends = []
    for name, text in found.items():
        box = box_of(text)
        point = ax.transData.transform((names.index(name), values[names.index(name)]))
        ends.append(np.array([point, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)]))
    assert not distributions._cross(*ends)


@pytest.mark.parametrize(
    ("second", "crosses"),
    [
        ([(0, 1), (1, 0)], True),
        ([(0.5, -1), (0.5, 2)], True),
        ([(2, 0), (3, 1)], False),
        ([(0, 0.1), (1, 1.1)], False),
        ([(0.6, 0.4), (5, 0)], False),
    ],
)
def test_segments_cross(second: list[tuple[float, float]], crosses: bool) -> None:
    diagonal = np.array([(0.0, 0.0), (1.0, 1.0)])
    assert distributions._cross(diagonal, np.array(second)) is crosses
    assert distributions._cross(np.array(second), diagonal) is crosses


def test_heavy_tails_do_not_squash_the_panel() -> None:
    frame = scores()
    figure = plotting.scores_by_gene(
        frame["score"].to_numpy(), frame["gene"].tolist(), order="in panel order"
    )
    (ax,) = figure.axes
    assert ax.get_yscale() == "asinh" and "stretched" in ax.get_ylabel()
    assert "in panel order" in ax.get_xlabel()
    low, high = line(ax, "p1")[0, 1], line(ax, "p99")[0, 1]
    heights = ax.transData.transform([(0, low), (0, high)])[:, 1] / ax.bbox.height
    assert heights[1] - heights[0] > 0.15
    even = plotting.scores_by_gene(np.linspace(-1, 1, 50), [f"G{i}" for i in range(50)])
    assert even.axes[0].get_yscale() == "linear"


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


def test_flagged_genes_are_hatched_and_their_flags_named() -> None:
    frame = gene_table(200, flags=True).dropna(subset=["rank"])
    figure = plotting.top_genes(frame, n=10)
    (ax,) = figure.axes
    hatched = [i for i, patch in enumerate(ax.patches[:10]) if patch.get_hatch()]
    assert hatched == [1, 4], "ranks 2 and 5 are flagged"
    notes = {text.get_text(): text for text in ax.texts}
    assert set(notes) == {"ribosomal", "cell cycle, depth"}
    figure.draw_without_rendering()
    for text in notes.values():
        box = box_of(text)
        assert ax.bbox.x1 < box.x0 and box.x1 <= figure.bbox.x1, "beside the axes, in the figure"
    assert "technical flag" in words(figure)
    plain = plotting.top_genes(frame.assign(flags=None), n=10)
    assert "technical flag" not in words(plain) and not plain.axes[0].texts


def test_effects_stand_in_fields_best_ranking_first() -> None:
    figure = plotting.effect_correlations(effects_table(), "deeplift/forward")
    (ax,) = figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    order = ["log_fold_change", "deeplift/forward", "grad_x_delta/contrast", "random", "hvg"]
    assert names == order
    bold = [t.get_text() for t in ax.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["deeplift/forward"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["B cell", "NK cell", "median"]
    values = np.asarray(ax.images[0].get_array().filled(np.nan))  # type: ignore[union-attr]
    np.testing.assert_allclose(values[1], [0.6, 0.4, 0.5])
    np.testing.assert_allclose(values[4], [-0.3, np.nan, -0.3])
    assert ax.images[0].get_clim() == (-0.9, 0.9), "white is no correlation"
    assert len(ax.texts) == 14, "a number in each of 15 fields but the undefined one"
    with pytest.raises(OutputError, match="nothing to draw"):
        plotting.effect_correlations(effects_table().assign(spearman=np.nan))
    with pytest.raises(OutputError, match="'label'"):
        plotting.effect_correlations(effects_table().drop(columns="label"))


def test_many_labels_have_no_numbers() -> None:
    many = pd.concat([effects_table().assign(label=f"type {i}") for i in range(15)])
    figure = plotting.effect_correlations(many)
    assert not figure.axes[0].texts
    figure.draw_without_rendering()


def test_enrichment_bars_are_ordered_by_p() -> None:
    figure = plotting.enrichment_bars(enrichment_table())
    (ax,) = figure.axes
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([10, 2, -np.log10(0.8)])  # type: ignore[attr-defined]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["HALLMARK INTERFERON ALPHA RESPONSE", "MARKERS T CELLS", "OTHER"]
    assert [text.get_text() for text in ax.texts] == ["15 of 80", "4 of 50", "1 of 20"]
    assert line(ax, "level")[:, 0] == pytest.approx(-np.log10(0.05))
    colours = [bar.get_facecolor() for bar in ax.patches]
    assert colours[0] == colours[2] != colours[1], "one colour a collection"
    assert ax.yaxis_inverted() and "hallmark" in words(figure)
    one = plotting.enrichment_bars(enrichment_table(), n=1)
    assert len(one.axes[0].patches) == 1


def test_sets_that_say_nothing_end_after_five() -> None:
    row = enrichment_table().iloc[:1]
    ps = [1e-9, *([0.4] * 5), *([0.6] * 9)]
    table = pd.concat([row.assign(gene_set=f"S{i}", p_adjusted=p) for i, p in enumerate(ps)])
    assert len(plotting.enrichment_bars(table).axes[0].patches) == 6
    assert len(plotting.enrichment_bars(table.tail(9)).axes[0].patches) == 5


def test_a_p_of_zero_has_a_bar_and_no_p_has_none() -> None:
    table = enrichment_table().assign(p_adjusted=[np.nan, 0.0, 0.5])
    figure = plotting.enrichment_bars(table)
    figure.draw_without_rendering()
    widths = [bar.get_width() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert len(widths) == 2 and np.isfinite(widths).all() and widths[0] > 300
    with pytest.raises(OutputError, match="nothing to draw"):
        plotting.enrichment_bars(table.assign(p_adjusted=np.nan))


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


def arms_table(**more: str) -> pd.DataFrame:
    """Curves of the published metrics for both arms, each at a height of its own."""
    curves = curves_table(**more)  # type: ignore[arg-type]
    parts = [
        curves.assign(arm=arm, metric=metric, value=curves["value"] - 0.02 * i - 0.1 * j)
        for i, metric in enumerate(pruning.PAPER_METRICS)
        for j, arm in enumerate(("input", "baseline"))
    ]
    return pd.concat([*parts, curves], ignore_index=True)


def test_the_grid_has_a_panel_for_each_metric_and_arm() -> None:
    curves = arms_table()
    figure = plotting.pruning_grid(curves, "lowest_first")
    assert len(figure.axes) == 8
    for i, metric in enumerate(pruning.PAPER_METRICS):
        for j, arm in enumerate(("input", "baseline")):
            rows = curves[(curves["order"] == "lowest_first") & (curves["arm"] == arm)]
            rows = rows[(rows["metric"] == metric) & (rows["ranking"] == "random")]
            drawn = line(figure.axes[2 * i + j], "ranking:random")
            np.testing.assert_allclose(drawn[:, 1], rows.groupby("ratio")["value"].mean())
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["Input cells", "Baseline cells"]
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named[0] == "deeplift/forward" and len(named) == len(RANKINGS) + 2
    assert all(text.startswith("band: ") for text in named[-2:])
    assert "random (mean of 10)" in named and "leaks" not in words(figure)
    # What was not measured takes no room.
    assert len(plotting.pruning_grid(curves, "lowest_first", ("f1", "auroc"), ("input",)).axes) == 1
    with pytest.raises(OutputError, match="metric 'auroc'"):
        plotting.pruning_grid(curves, "lowest_first", ("auroc",))


def test_both_orders_share_a_legend() -> None:
    figure = plotting.pruning_orders(curves_table(), chance=0.5)
    titles = [ax.get_title(loc="left").lower() for ax in figure.axes]
    assert titles == list(plotting.ORDER_NAMES.values()) and len(figure.legends) == 1
    one = curves_table()
    one = one[one["order"] == "highest_first"]
    assert len(plotting.pruning_orders(one).axes) == 1


def test_per_pair_rankings_are_marked_one_by_one() -> None:
    """Beside a ranking of held-out pairs and controls, which leak nothing."""
    curves = arms_table()
    leaking = curves[curves["ranking"] == "deeplift/forward"].assign(rank_source="per_pair")
    null = leaking.assign(ranking="deeplift/forward (random weights)")
    control = curves[curves["ranking"] == "hvg"].assign(rank_source="per_pair")
    mixed = pd.concat([curves[curves["ranking"] != "hvg"], leaking, null, control])
    names = set(plotting.mark_leaks(mixed)["ranking"])
    assert names == {
        *RANKINGS,
        "deeplift/forward (leaks)",
        "deeplift/forward (random weights) (leaks)",
    }
    for draw in (plotting.pruning_curves, plotting.pruning_grid):
        figure = draw(mixed, "lowest_first", main="deeplift/forward")
        assert "leaks the label" in words(figure) and "deeplift/forward (leaks)" in words(figure)
        bold = max(figure.axes[0].lines, key=lambda line: line.get_linewidth())
        assert bold.get_gid() == "ranking:deeplift/forward (leaks)"
    assert "leaks the label" in words(plotting.pruning_orders(mixed)).replace("Leaks", "leaks")
    assert plotting.mark_leaks(curves) is curves


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
        (pruning_lines._log_kept, pruning_lines._from_log_kept),
        (pruning_lines._log_removed, pruning_lines._from_log_removed),
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


def test_many_methods_stay_apart() -> None:
    names = [f"method{i}" for i in range(12)]
    styles = plotting.ranking_styles(names)
    looks = {(s["color"], str(s["linestyle"])) for s in styles.values()}
    assert len(looks) == len(names)


def test_roles_differ() -> None:
    roles = ["main", *palette.CONTROLS]
    colours = [*(plotting.PALETTE[role] for role in roles), *plotting.COMPARED]
    assert len(set(colours)) == len(colours)


def test_spread_moves_little_and_keeps_apart() -> None:
    assert pruning_lines.spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert pruning_lines.spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    crowded = pruning_lines.spread([0.97, 0.98, 0.99, 1.0], 0.1)
    assert crowded == pytest.approx([0.7, 0.8, 0.9, 1.0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        places = pruning_lines.spread(sorted(rng.random(8)), 0.08)
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


def test_a_close_up_says_what_bands_are() -> None:
    figure = plotting.pruning_orders(curves_table(), close_up=0.7)
    near, cell = figure.axes[2:]
    assert near.get_ylim()[0] == 0.7 and "from 0.7 up" in near.get_title(loc="left")
    legend = cell.get_legend()
    assert legend is not None and not figure.legends
    assert "band: lowest to highest draw" in [text.get_text() for text in legend.get_texts()]
    markers = {str(line.get_marker()) for line in near.lines}
    assert len(markers) > 5


def test_the_last_ratio_is_named_in_both_orders() -> None:
    ratios = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
    for order in plotting.ORDER_NAMES:
        _, named, _ = plotting.ratio_places(ratios, order, 0.09)
        assert named == list(range(len(ratios)))
