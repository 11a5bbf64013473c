"""All figures of a run, as PNG and SVG files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.errors import OutputError
from gradgene.evaluation import MEASURES
from gradgene.genes import default_importance
from gradgene.pruning import RANDOM_WEIGHTS
from gradgene.reports.controls import control_figures
from gradgene.reports.run_files import RunFiles, write_atomically

__all__ = ["pick_curves", "write_figures", "write_picture", "write_pictures"]

_log = logging.getLogger(__name__)
_DPI = 150
#: More curves than this cannot be told apart, nor can their names be set beside them.
MOST_CURVES = 12
#: So many rankings are still taken in at a glance.
MOST_EFFECTS = 16
#: Measures of faithfulness that are drawn.
DRAWN_MEASURES = (
    *("swap_gap", "infidelity_scaled", "sensitivity_max"),
    *("comprehensiveness", "sufficiency", "aopc_normalised"),
)


def write_figures(run: RunFiles) -> dict[str, Path]:
    """Draw every figure for which the run has data, to `figures/<name>.png` and `.svg`.

    Parameters
    ----------
    run
        The run's files.

    Returns
    -------
    dict
        Figure name → path of its PNG (150 dots per inch); the SVG lies beside it. Names:
        `training_curves`, `top_genes`, `distribution_importance`, `distribution_forward`,
        `distribution_backward`, `scores_by_gene`, `effects`, `enrichment`, `interactions`,
        `sanity`, `pair_stability`, `donor_stability`, `agreement`, `disputed_genes`,
        `pruning_lowest_first`, `pruning_highest_first`, `paper_pruning_lowest_first`,
        `paper_pruning_highest_first`, `pruning_retrained`, `completeness`, `faithfulness`.

    Raises
    ------
    OutputError
        If a file cannot be written. A figure for which there are no usable values is left out
        with a warning in the log.
    """
    written = {}
    for name, draw in _figures(run):
        try:
            figure = draw()
        except OutputError as error:
            # One empty table must not cost the run its other figures.
            _log.warning("figure %s left out: %s", name, error)
            continue
        written[name] = write_pictures(figure, run.path / "figures" / name)
    return written


def pick_curves(run: RunFiles) -> tuple[pd.DataFrame, str, str] | None:
    """Choose the arm and the metric that stand for a run's pruning curves.

    Parameters
    ----------
    run
        The run's files.

    Returns
    -------
    tuple or None
        The rows of `curves.parquet` of that arm and metric, the arm (`both` if measured) and the
        metric (`balanced_accuracy` if measured); None without curves.
    """
    if run.curves is None or run.curves.empty:
        return None
    arms, metrics = (list(dict.fromkeys(map(str, run.curves[c]))) for c in ("arm", "metric"))
    arm = "both" if "both" in arms else arms[0]
    at_arm = run.curves[run.curves["arm"] == arm]
    metrics = list(dict.fromkeys(map(str, at_arm["metric"])))
    metric = "balanced_accuracy" if "balanced_accuracy" in metrics else metrics[0]
    return at_arm[at_arm["metric"] == metric], arm, metric


def _figures(run: RunFiles) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The figures this run has data for, each with the call that draws it."""
    history, genes, pairs = run.history, run.ranked_genes, run.pairs
    if history is not None:
        yield "training_curves", lambda: plotting.training_curves(history)
    if genes is not None:
        yield "top_genes", lambda: plotting.top_genes(genes)
        yield from _score_figures(run, genes)
    effects, enrichment = run.effects, run.enrichment
    if effects is not None:
        shown = legible(effects, run.ranking_name, run.baseline or "cell_state", MOST_EFFECTS)
        # Signed or by magnitude is what differs most here, so the main ranking is drawn both ways.
        main = (run.ranking_name or "").removesuffix("/abs")
        both = effects["ranking"].isin([main, f"{main}/abs"])
        shown = effects[both | effects["ranking"].isin(shown["ranking"])]
        yield "effects", lambda: plotting.effect_correlations(shown, run.ranking_name)
    if enrichment is not None and len(enrichment):
        yield "enrichment", lambda: plotting.enrichment_bars(enrichment)
    interactions = run.interactions
    if interactions is not None and len(interactions):
        yield "interactions", lambda: plotting.interaction_map(interactions)
    yield from control_figures(run)
    picked = pick_curves(run)
    if picked is not None:
        curves, arm, metric = picked
        yield from _pruning_figures(run, curves, arm, metric)
        yield from _arm_figures(run)
    if run.retrained is not None and len(run.retrained):
        yield "pruning_retrained", lambda: _retrained_figure(run)
    if pairs is not None and "relative_delta" in pairs:
        yield "completeness", lambda: plotting.completeness(pairs)
    if run.faithfulness is not None and len(run.faithfulness):
        yield "faithfulness", lambda: _faithfulness_figure(run)


def _score_figures(
    run: RunFiles, genes: pd.DataFrame
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Distributions of what the gene table has of both directions, and each gene's place."""
    importance = (run.ranking_name or "").removesuffix("/abs").rpartition("/")[2]
    parts = {
        "importance": ("score", f"Importance ({importance})" if importance else "Importance"),
        "forward": ("forward", "Forward attribution"),
        "backward": ("backward", "Backward attribution"),
    }
    for name, (column, title) in parts.items():
        if column not in genes or genes[column].isna().all():
            continue
        zeros = (run.metrics or {}).get(f"attribution/{run.method}/zero_{name}")

        def draw(column: str = column, title: str = title, zeros: object = zeros) -> Figure:
            scores = genes[column].to_numpy(dtype=float)
            title = f"{title}: {run.method}" if run.method else title
            share = float(zeros) if isinstance(zeros, int | float) else None
            return plotting.score_distribution(scores, title, zero_share=share)

        yield f"distribution_{name}", draw
    # Not by rank: a sorted curve would show the same as the distribution.
    panel, order = genes.sort_values("gene"), "in alphabetical order"
    if run.panel is not None and set(genes["gene"].astype(str)) <= set(run.panel):
        panel = genes.set_index(genes["gene"].astype(str))
        panel = panel.loc[[gene for gene in run.panel if gene in panel.index]]
        order = "in the order of the model's panel"
    names = panel["gene"].astype(str).tolist()
    scores = panel["score"].to_numpy(dtype=float)
    yield "scores_by_gene", lambda: plotting.scores_by_gene(scores, names, order=order)


def legible(
    curves: pd.DataFrame, main: str | None, baseline: str = "cell_state", most: int = MOST_CURVES
) -> pd.DataFrame:
    """The curves worth drawing where there are more rankings than a figure can name.

    Kept are the main ranking, the controls, the pairs' own fold change and, of every other
    method, its default importance under the `baseline`, signed and absolute, and the published
    `paper_mean`, each with its model of random weights; the tables have them all.
    """
    names = list(dict.fromkeys(map(str, curves["ranking"])))
    if len(names) <= most:
        return curves
    own = (main or "").partition("/")[0]
    kept = {main, *plotting.CONTROLS, "log_fold_change"}
    for method in {name.partition("/")[0] for name in names} - {own}:
        default = f"{method}/{default_importance(method, baseline)}"
        kept |= {default, f"{default}/abs", f"{method}/paper_mean"}
    kept |= {f"{name}{RANDOM_WEIGHTS}" for name in kept}
    return curves[curves["ranking"].isin(kept)]


def _pruning_figures(
    run: RunFiles, curves: pd.DataFrame, arm: str, metric: str
) -> Iterator[tuple[str, Callable[[], Figure]]]:
    curves = legible(curves, run.main_ranking, run.baseline or "cell_state")
    # Pruning tells two labels apart, so guessing gets half of each right; a run may know better.
    chance = (run.metrics or {}).get("pruning/chance", 0.5)
    chance = float(chance) if metric == "balanced_accuracy" else None
    for order in plotting.ORDER_NAMES:
        if (curves["order"] == order).any():

            def draw(order: str = order) -> Figure:
                return plotting.pruning_curves(
                    curves, order, arm, metric, chance=chance, main=run.main_ranking
                )

            yield f"pruning_{order}", draw


def _arm_figures(run: RunFiles) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The published study's small multiples, metrics by arms, one for each order."""
    assert run.curves is not None  # they have just been drawn
    curves = run.curves
    curves = curves[curves["arm"].isin(["input", "baseline"])]
    curves = curves[curves["metric"].isin(plotting.PAPER_METRICS)]
    curves = legible(curves, run.main_ranking, run.baseline or "cell_state")
    for order in plotting.ORDER_NAMES:
        if (curves["order"] == order).any():

            def draw(order: str = order) -> Figure:
                return plotting.pruning_grid(curves, order, main=run.main_ranking)

            yield f"paper_pruning_{order}", draw


def _faithfulness_figure(run: RunFiles) -> Figure:
    """The measures that tell most, one after the other; the report's table has all."""
    assert run.faithfulness is not None
    found = run.faithfulness
    parts = []
    for name in DRAWN_MEASURES:
        title = f"{MEASURES[name].title} {MEASURES[name].arrow}"
        parts.append(found[found["measure"] == name].assign(title=title))
    return plotting.faithfulness_measures(pd.concat(parts, ignore_index=True))


def _retrained_figure(run: RunFiles) -> Figure:
    assert run.retrained is not None  # asked for where there is one
    return plotting.pruning_curves(
        run.retrained,
        "highest_first",
        chance=float((run.metrics or {}).get("pruning/chance", 0.5)),
        main=run.main_ranking,
        title="Most important removed, and a new model trained without them",
    )


def write_pictures(figure: Figure, stem: Path) -> Path:
    """Write `<stem>.svg` and `<stem>.png` of a figure, laid out once; gives the latter."""
    write_picture(figure, stem.with_name(f"{stem.name}.svg"))
    figure.set_layout_engine("none")  # to lay it out takes as long as to draw it
    return write_picture(figure, stem.with_name(f"{stem.name}.png"))


def write_picture(figure: Figure, path: Path) -> Path:
    """Write a figure as the suffix of `path` says (150 dots per inch); gives `path` back.

    The same figure makes the same bytes. Raises `OutputError` if it cannot be written.
    """
    buffer, kind = BytesIO(), path.suffix[1:]
    # Without a fixed salt and with a date in it, an SVG would differ from run to run.
    with matplotlib.rc_context({"svg.hashsalt": "gradgene", "svg.fonttype": "path"}):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    return write_atomically(path, buffer.getvalue())
