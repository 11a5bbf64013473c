"""Controls in plain words: what rankings reach that never asked the model."""

from __future__ import annotations

from gradgene.plotting import METRIC_NAMES
from gradgene.pruning import RANDOM_WEIGHTS
from gradgene.reports.headline import PruningPoint, bracketed, pruning_points
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = ["CONTROLS", "control_ranking_table"]

#: Ranking → what it is.
CONTROLS = {
    "random": "Genes in random order",
    "random_matched": "Random genes, expressed like the best of the ranking",
    "hvg": "Highly variable genes",
    "hvg_batch": "Highly variable genes within batches",
    "deg": "Differentially expressed genes of the two labels",
    "deg_pseudobulk": "Differentially expressed genes over donors' pseudobulks",
    "expression": "Genes by mean expression",
    "log_fold_change": "Genes by fold change",
}


def control_ranking_table(run: RunFiles) -> Table | None:
    """The run's ranking and every control at the two points where the pruning is judged.

    None without a control among the curves.
    """
    points, main = list(pruning_points(run)), run.main_ranking
    if not points or main is None:
        return None
    there = {str(name) for point in points for name in point.all["ranking"]}
    named = {main: "The ranking of this run"}
    named[f"{main}{RANDOM_WEIGHTS}"] = "The same of a model with random weights"
    named |= {name: words for name, words in CONTROLS.items() if name != main}
    rows = [
        (name, words, *(_value(point, name) for point in points))
        for name, words in named.items()
        if name in there
    ]
    if len(rows) < 2:
        return None
    return make_table(["Ranking", "What it is", *(_heading(point) for point in points)], rows)


def _heading(point: PruningPoint) -> str:
    metric = METRIC_NAMES.get(point.metric, point.metric)
    if point.order == "lowest_first":
        return f"{metric}, best {percent(1 - point.ratio)} kept ↑"
    return f"{metric}, best {percent(point.ratio)} removed ↓"


def _value(point: PruningPoint, ranking: str) -> str:
    rows = point.all[point.all["ranking"] == ranking]
    if rows.empty:
        return number(None)
    text = number(float(rows["value"].mean()))
    if len(rows) > 1:
        ends = " to ".join(number(float(x)) for x in (rows["value"].min(), rows["value"].max()))
        return f"{text} ({ends} in {len(rows)} draws)"
    low, high = (rows[c].iloc[0] if c in rows else None for c in ("ci_low", "ci_high"))
    return f"{text} {bracketed(low, high)}".rstrip()
