"""`gradgene attribute`: explain matched pairs of a trained model and rank its genes.

A command that was broken off anywhere, even killed, goes on where it was when given again.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from gradgene.attribution import AttributionSettings
from gradgene.commands.attribute.examples import write_examples
from gradgene.commands.attribute.plan import (
    arranged_pairs,
    estimates,
    plan_pairs,
    tell_plan,
    timed,
    write_plan,
)
from gradgene.commands.attribute.running import (
    attribute_pairs,
    clear_progress,
    main_importance,
    ranking_of,
)
from gradgene.commands.attribute.tables import (
    forget_others,
    ranking_names,
    rankings_by_label,
    rankings_of,
    write_cells,
    write_left_out,
    write_tables,
    write_training_table,
)
from gradgene.commands.config.binding import build
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.line.options import Options
from gradgene.commands.run.memory import peak_mb
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.sweep.planned import Estimate
from gradgene.commands.train.stage import stand_in
from gradgene.genes import FlagRules
from gradgene.store import write_parquet

__all__ = [
    "attribute",
    "check_attribution",
    "forecast_attribution",
    "main_importance",
    "plan_pairs",
    "ranking_names",
    "ranking_of",
    "run",
]


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Attribute held-out and training pairs with a model that is already trained."""
    with Workspace(cfg, output_dir) as work:
        if options.dry_run:
            check_attribution(work)
            stand_in(work)
            tell_plan(work, arranged_pairs(work), {}, table=True)
            tell_stages(work, {"attribute": forecast_attribution}, planned=options.planned)
            return
        work.fetch_before("attribute")
        work.write_provenance()
        work.stage("attribute", attribute)


def forecast_attribution(work: Workspace) -> Forecast:
    """How many pairs by which methods, each tried on a few of them."""
    parts = arranged_pairs(work)
    found = estimates(work, parts)
    takes = [one for one in found.values() if one is not None]  # others are in the cache
    peak = max((one.peak_mb for one in takes), default=peak_mb())
    total = Estimate(sum(one.seconds for one in takes), peak)
    n_pairs = " and ".join(f"{len(plan)} {split}" for split, (_, plan) in parts.items())
    methods = ", ".join(settings.method.name for settings in work.attributions)
    return Forecast(f"{n_pairs} pairs by {methods}", total, "the tables of genes")


def check_attribution(work: Workspace) -> None:
    """Refuse before hours of work what attribution would refuse at its end.

    Raises
    ------
    GradgeneError
        For a meaningless importance, or a file of flagged genes that cannot be read.
    """
    for settings in work.attributions:
        main_importance(work, settings)
    rules: FlagRules = build(work.cfg.flags)
    rules.read()


def report_tokens(work: Workspace, settings: AttributionSettings, n_tokens: int) -> None:
    """Note how many tokens at a time it was, and say so where fewer fitted than were asked for."""
    name, asked = settings.method.name, work.batch_tokens(settings)
    work.add_metrics({f"attribution/{name}/batch_tokens": n_tokens})
    if n_tokens < asked:
        work.noted.setdefault("fitting_tokens", {})[name] = n_tokens
        work.console.print(
            f"[yellow]{name}: batches of {asked} tokens did not fit in memory; done with "
            f"{n_tokens} at a time[/]"
        )


def attribute(work: Workspace) -> None:
    """Gene tables from held-out pairs, and rankings for pruning from training pairs.

    Held-out pairs are what one reports. Pruning is judged on held-out cells, so its rankings must
    not have seen them.
    """
    check_attribution(work)
    parts = arranged_pairs(work)
    if work.is_main:
        clear_progress(work, finished=False)
        found = estimates(work, parts)
        write_plan(work, parts, found)
        tell_plan(work, parts, found)
    # Several processes share out the same batches, of what is free to the main one.
    tokens = {one.method.name: work.batch_tokens(one) for one in work.attributions}
    work.chosen_tokens = work.company.agreed(tokens)
    frames: dict[str, list[pd.DataFrame]] = {split: [] for split in parts}
    by_label: list[pd.DataFrame] = []
    left_out: dict[tuple[str, str], pd.DataFrame] = {}
    for split, (cells, plan) in parts.items():
        for settings in work.attributions:
            method = settings.method.name
            with timed(work, method, split) as noted:
                result = attribute_pairs(work, settings, cells, plan, split)
                noted["fitting_tokens"] = result.batch_tokens
            if not work.is_main:
                continue
            report_tokens(work, settings, result.batch_tokens)
            left_out[method, split] = result.left_out
            frames[split] += [r.to_pandas(split) for r in rankings_of(work, settings, result.sums)]
            if split == "test":
                write_tables(work, settings, result, cells, plan)
                if settings is work.settings:
                    write_examples(work, cells, plan, result.pairs)
                by_label += rankings_by_label(work, settings, result.sums)
            elif settings is work.settings:
                write_training_table(work, settings, result, cells, plan)
    if not work.is_main:
        return
    forget_others(work)
    folder = work.folder / "attributions"
    write_left_out(work, left_out)
    write_cells(work, *parts["test"])
    write_parquet(pd.concat(frames["test"]), folder / "rankings.parquet")
    write_parquet(pd.concat(frames["train"]), work.folder / "pruning" / "rankings.parquet")
    (folder / "rankings_by_label.parquet").unlink(missing_ok=True)
    if by_label:
        write_parquet(pd.concat(by_label, ignore_index=True), folder / "rankings_by_label.parquet")
    clear_progress(work, finished=True)
