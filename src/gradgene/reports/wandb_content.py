"""What a stage shows in Weights & Biases: tables, line plots, images, and figures to sort runs by.

(Inside this file `wandb` is the installed package, not the module beside it.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from gradgene.provenance import redacted
from gradgene.reports.run_files import RunFiles, ranked
from gradgene.reports.tracked import ARM, METRIC, best_validation, mean_curves

__all__ = ["STAGES", "guarded", "log_content"]

_log = logging.getLogger(__name__)
#: Rows of tables about genes, and of any other table; longer ones are cut and a note says so.
_GENE_ROWS, _ROWS = 500, 5_000
_Table = pd.DataFrame | None

#: Stage -> name of a table in W&B -> what it shows.
_TABLES: dict[str, dict[str, Callable[[RunFiles], _Table]]] = {
    "train": {
        "confusion": lambda run: run.confusion,
        "test_donors": lambda run: run.donors,
    },
    "attribute": {
        "genes": lambda run: _best(run.ranked_genes),
        "genes_by_label": lambda run: _best_by_label(run),
        "genes_of_compared": lambda run: _compared(run),
        "rankings": lambda run: _rankings(run),
        "pairs": lambda run: run.pairs,
        "strata": lambda run: run.strata,
        "skipped_pairs": lambda run: run.skipped_pairs,
    },
    "prune": {
        "rankings": lambda run: _rankings(run),
        "curves": lambda run: _curves_to_compare_first(run.curves),
        "areas": lambda run: run.summary,
        "retrained": lambda run: run.retrained,
    },
    "evaluate": {
        "faithfulness": lambda run: run.faithfulness,
        "stability": lambda run: run.stability,
        "sanity": lambda run: run.sanity,
        "agreement": lambda run: run.agreement,
        "consensus": lambda run: _best(run.consensus),
        "interactions": lambda run: run.interactions,
        "effects": lambda run: run.effects,
        "enrichment": lambda run: _best(run.enrichment),
    },
}
STAGES = tuple(_TABLES)
"""The stages of a study that have tables of their own, in their order."""


def log_content(
    wandb_run: Any, run: RunFiles, stages: Sequence[str], figures: Mapping[str, Path]
) -> None:
    """Log what these stages left to an open W&B run.

    Parameters
    ----------
    wandb_run
        The open run, such as `WandbLogger.experiment`.
    run
        The run's files. Of genes the 500 best become a table, the 30 best of each label, of pairs
        and every other table the first 5,000 rows; where a table is cut the summary has a note
        `<table>/note`. Pruning curves are line plots as well, one for each order.
    stages
        Whose tables and plots. The summary takes all of `metrics.json`, whichever stage it is, so
        that runs of every stage can be sorted by any figure known by then.
    figures
        Figure name -> PNG, as `write_figures` returns them; logged as images.

    Notes
    -----
    Raises nothing: what W&B refuses is a warning in the log, and the rest is still logged.
    """
    summary = {**best_validation(run), **(run.metrics or {})}
    guarded("metrics", lambda: wandb_run.summary.update(summary))
    tables = {name: make for stage in stages for name, make in _TABLES.get(stage, {}).items()}
    for name, make in tables.items():
        guarded(f"{name} table", partial(_log_made, wandb_run, name, make, run))
    if "prune" in stages:
        for name, plot in _plots(run):
            guarded(f"{name} plot", partial(_log_plot, wandb_run, name, plot))
    if figures:
        guarded("figures", lambda: wandb_run.log(_images(figures)))


def guarded(what: str, work: Callable[[], Any]) -> None:
    """Do `work`; what it raises, of whatever kind, is a warning that names `what`."""
    try:
        work()
    except Exception as error:  # a service's failure, of whatever kind, must not cost a run
        said = redacted(str(error))
        _log.warning("W&B: %s not logged: %s: %s", what, type(error).__name__, said)
        _log.debug("W&B: %s", what, exc_info=True)


def _log_made(wandb_run: Any, name: str, make: Callable[[RunFiles], _Table], run: RunFiles) -> None:
    _log_table(wandb_run, name, make(run))


def _log_plot(wandb_run: Any, name: str, plot: Callable[[], Any]) -> None:
    wandb_run.log({name: plot()})


def _log_table(wandb_run: Any, name: str, frame: _Table) -> None:
    if frame is None or frame.empty:
        return
    shown = frame.head(_ROWS)
    # As objects, because W&B takes pandas' null for a value of its own and refuses the column.
    plain = shown.astype(object).where(shown.notna(), None)
    data: list[Any] = plain.to_numpy().tolist()
    wandb_run.log({name: wandb.Table(columns=list(map(str, plain.columns)), data=data)})
    if len(shown) < len(frame):
        note = f"the first {len(shown):,} of {len(frame):,} rows; all are in the run's folder"
        wandb_run.summary.update({f"{name}/note": note})


def _images(figures: Mapping[str, Path]) -> dict[str, Any]:
    return {f"figures/{name}": wandb.Image(str(path)) for name, path in figures.items()}


def _best(frame: _Table) -> _Table:
    return None if frame is None else frame.head(_GENE_ROWS)


def _best_by_label(run: RunFiles, n: int = 30) -> _Table:
    """The best genes of each label, one label below the other."""
    if run.genes_by_label is None or run.genes_by_label.empty:
        return None
    labels = run.genes_by_label.groupby("label", sort=False)
    return pd.concat([ranked(table).head(n) for _, table in labels], ignore_index=True)


def _compared(run: RunFiles) -> _Table:
    """The best genes of each compared method, one method below the other."""
    tables = [ranked(table).head(_GENE_ROWS) for table in run.compared.values()]
    return pd.concat(tables, ignore_index=True) if tables else None


def _rankings(run: RunFiles) -> _Table:
    """The rank of each gene in every ranking's first draw, by the run's own ranking."""
    if run.rankings is None:
        return None
    table = run.rankings
    table = table[table["draw"] == 0] if "draw" in table else table
    wide = table.pivot_table(index="gene", columns="ranking", values="rank", sort=False)
    main = str(run.ranking_name if run.ranking_name in wide else wide.columns[0])
    wide = wide.sort_values(main, kind="stable").head(_GENE_ROWS)
    return wide[[main, *(c for c in wide.columns if c != main)]].reset_index()


def _curves_to_compare_first(curves: _Table) -> _Table:
    """With balanced accuracy of all cells on top, which is what a cut table must still hold."""
    if curves is None:
        return None
    others = (curves["arm"] != ARM) | (curves["metric"] != METRIC)
    return curves.loc[others.sort_values(kind="stable").index]


def _plots(run: RunFiles) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A line plot of each order's curves, and one of the models trained without the genes."""
    tables = {}
    if run.curves is not None:
        mean = mean_curves(run.curves, "order")
        tables = {f"pruning_{order}": part for order, part in mean.groupby("order", sort=False)}
    if run.retrained is not None:
        tables["retrained"] = mean_curves(run.retrained, "metric")
    for name, table in tables.items():
        yield f"plots/{name}", partial(_lines, name, table)


def _lines(name: str, table: pd.DataFrame) -> Any:
    lines = dict(list(table.groupby("ranking", sort=False)))
    return wandb.plot.line_series(
        xs=[line["ratio"].tolist() for line in lines.values()],
        ys=[line["value"].tolist() for line in lines.values()],
        keys=[str(ranking) for ranking in lines],
        title=f"{name.replace('_', ' ')}: balanced accuracy",
        xname="share of genes removed",
        split_table=True,
    )
