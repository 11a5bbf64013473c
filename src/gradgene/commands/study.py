"""`gradgene study`: train, attribute, prune, evaluate and report, skipping what is done."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from gradgene.commands.attribute.stage import (
    attribute,
    check_attribution,
    forecast_attribution,
    plan_pairs,
)
from gradgene.commands.config.binding import build
from gradgene.commands.estimate.forecast import tell_stages
from gradgene.commands.evaluate.sanity import refuse_insane
from gradgene.commands.evaluate.stage import check_evaluation, evaluate, forecast_evaluation
from gradgene.commands.line.options import Options
from gradgene.commands.prune.stage import check_pruning, forecast_pruning, prune_genes
from gradgene.commands.run.tracking import tracked
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.stage import data_report, forecast_training, stand_in, train
from gradgene.errors import ConfigError
from gradgene.reports import RunFiles, leaks, write_figures

__all__ = ["run"]

STAGES = {"train": train, "attribute": attribute, "prune": prune_genes, "evaluate": evaluate}
FORECASTS = {
    "train": forecast_training,
    "attribute": forecast_attribution,
    "prune": forecast_pruning,
    "evaluate": forecast_evaluation,
}


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """The whole study in one folder; the same command continues an interrupted one."""
    with Workspace(cfg, output_dir) as work:
        if work.is_main:
            check_choices(work)
        if options.dry_run:
            work.refuse_other_training()
            data_report(work)
            stand_in(work)
            tell_stages(work, FORECASTS, "figures and report.html", options.planned)
        else:
            study(work, cfg)


def study(work: Workspace, cfg: DictConfig) -> None:
    """Every stage that is not done, then figures and report.

    Raises
    ------
    GradgeneError
        At the very end, of a run that failed its sanity checks.
    """
    changed = prepare(work) if work.is_main else []
    for name, stage in STAGES.items():
        work.stage(name, stage)
    if not work.is_main:
        return
    work.write_provenance()
    files = RunFiles.read(work.folder)
    figures: dict[str, Path] = {}
    # Figures are drawn again for nothing new, too; the trackers have those already.
    tracking = tracked(work, "report", figures) if changed else nullcontext()
    with tracking, work.console.status("drawing figures"):
        figures |= write_figures(files)
        make_report = build(cfg.get("report"))
        report = make_report(files, figures) if make_report else None
    summarise(work, files, report)
    refuse_insane(work)


def prepare(work: Workspace) -> list[str]:
    """Refuse what can be refused before any work; the stages that are not done."""
    work.refuse_other_training()
    changed = [name for name in STAGES if not work.is_done(name)]
    if "attribute" in changed and not work.in_cache("attribute"):
        plan_pairs(work)  # cells that cannot be paired are known before hours of training
    work.write_provenance()
    return changed


def check_choices(work: Workspace) -> None:
    """Refuse now what a later stage would refuse after hours of training."""
    for section in ("finetune", "objective", "baseline", "pairs"):
        build(work.cfg[section])
    check_attribution(work)
    check_pruning(work)
    check_evaluation(work)
    for key in ("pairs.file", "ranking.file"):
        file = OmegaConf.select(work.cfg, key)
        if file is not None and not Path(file).expanduser().is_file():
            raise ConfigError(f"no such file: {file}", where=key)


def summarise(work: Workspace, files: RunFiles, report: Path | None) -> None:
    """Print the best genes, the pruning summary and where everything is."""
    console = work.console
    if files.ranked_genes is not None:
        genes = Table("rank", "gene", "score", "direction", title="top genes")
        for row in files.ranked_genes.head(15).itertuples():
            genes.add_row(str(row.rank), str(row.gene), f"{row.score:+.4f}", str(row.direction))
        console.print(genes)
    if files.summary is not None:
        console.print(areas(files.summary, leaks(files)))
    console.print(f"results: {work.folder}")
    if report is not None:
        console.print(f"report:  {report.resolve().as_uri()}")


def areas(summary: pd.DataFrame, leaking: bool = False) -> Table:
    """Area between each ranking's curve of balanced accuracy and random's."""
    title = "pruning: area against random" + (", rankings leak the label" if leaking else "")
    table = Table("ranking", "lowest first", "highest first", title=title)
    both = summary[(summary["arm"] == "both") & (summary["metric"] == "balanced_accuracy")]
    if "against" in both:
        both = both[both["against"] == "random"]
    wide = both.pivot_table(index="ranking", columns="order", values="area", sort=False)
    for name, row in wide.iterrows():
        if name != "random":
            cells = [f"{row.get(o, float('nan')):+.3f}" for o in ("lowest_first", "highest_first")]
            table.add_row(str(name), *cells)
    return table
