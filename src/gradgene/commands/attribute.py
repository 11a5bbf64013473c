"""`gradgene attribute`: explain matched pairs of a trained model and rank its genes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from gradgene.attribution import Attribution, AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.binding import build
from gradgene.commands.options import Options
from gradgene.commands.run_folder import interruptible
from gradgene.commands.workspace import Workspace
from gradgene.evaluation import completeness_summary
from gradgene.genes import (
    GeneSums,
    GeneSumsMetric,
    Importance,
    build_gene_table,
    default_importance,
    expression_of_pairs,
)
from gradgene.lit import AttributionCollector, PhenotypeModule, pair_loader
from gradgene.pairs import BaselineStrategy, PairPlan, PairSampler
from gradgene.pruning import GeneRanking, RankingChoice
from gradgene.store import PairShardWriter, write_parquet

__all__ = ["attribute", "main_importance", "plan_pairs", "ranking_names", "run"]


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Attribute held-out and training pairs with a model that is already trained."""
    work = Workspace(cfg, output_dir)
    if options.dry_run:
        work.plan("attribute")
        return
    work.write_provenance()
    work.stage("attribute", attribute)


def attribute(work: Workspace) -> None:
    """Gene tables from held-out pairs, and rankings for pruning from training pairs.

    Held-out pairs are what one reports. Pruning is judged on held-out cells, so its rankings must
    not have seen them.
    """
    for settings in work.attributions:  # a meaningless choice must fail before hours of work
        main_importance(work, settings)
    parts = arranged_pairs(work)
    tell_plan(work, parts["test"][1])
    frames: dict[str, list[pd.DataFrame]] = {split: [] for split in parts}
    for split, (cells, plan) in parts.items():
        for settings in work.attributions:
            sums, pairs = attribute_pairs(work, settings, cells, plan, split)
            frames[split] += [r.to_pandas(split) for r in rankings_of(work, settings, sums)]
            if split == "test":
                write_tables(work, settings, sums, pairs, cells, plan)
    forget_others(work)
    write_parquet(pd.concat(frames["test"]), work.folder / "attributions" / "rankings.parquet")
    write_parquet(pd.concat(frames["train"]), work.folder / "pruning" / "rankings.parquet")


def plan_pairs(work: Workspace) -> dict[str, PairPlan]:
    """The pairs of held-out ("test") and of training cells ("train"); see `arranged_pairs`."""
    return {split: plan for split, (_, plan) in arranged_pairs(work).items()}


def arranged_pairs(work: Workspace) -> dict[str, tuple[Cells, PairPlan]]:
    """Draw the pairs of held-out ("test") and of training cells ("train"), each with its cells.

    The baseline arranges each part by itself, so that what it makes of cells never mixes parts.

    Raises
    ------
    GradgeneError
        If the cells do not fit the study or no pair can be formed.
    """
    sampler: PairSampler = build(work.cfg.pairs)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    arranged = {}
    for split, drawer in (("test", sampler), ("train", sampler.for_training())):
        cells = work.data.part(split)
        arranged[split] = baseline.arrange(cells, drawer.sample(cells))
    return arranged


def attribute_pairs(
    work: Workspace, settings: AttributionSettings, cells: Cells, plan: PairPlan, split: str
) -> tuple[GeneSums, pd.DataFrame]:
    """Run Lightning's predict over a plan; returns per-gene sums and the ledger of pairs."""
    loaded, facts = work.loaded, work.facts
    baseline: BaselineStrategy = build(work.cfg.baseline)
    module = PhenotypeModule(
        loaded.model,
        loaded.tokenizer.schema,
        facts.target,
        build(work.cfg.finetune),
        build(work.cfg.objective),
    )
    target = settings.target(facts.target, facts.input, facts.baseline)
    module.explain_with(settings.method, target, baseline)
    sums = GeneSumsMetric(
        n_genes=len(loaded.vocabulary.genes),
        n_phenotypes=len(loaded.vocabulary.phenotypes),
        n_donors=int(plan.donors.max()) + 1,
        importances=Importance.meaningful(settings.method.name, baseline.name, target.kind),
        sees_presence=settings.method.sees_presence,
        normalise=settings.normalize,
    )
    write, close = shard_writer(work, settings, split)
    collector = AttributionCollector(sums, plan, write)
    work.console.print(f"{settings.method.name}: {len(plan)} pairs of {split} cells")
    progress = [c for n, c in build(work.cfg.callbacks).items() if n == "progress"]
    with interruptible():
        work.trainer(logger=False, callbacks=[*progress, collector]).predict(
            module,
            pair_loader(
                cells,
                loaded.tokenizer,
                plan,
                settings.batch_tokens,
                per_cell=settings.method.per_cell,
            ),
            return_predictions=False,
        )
    loaded.model.to(work.device)  # Lightning gives models back on the CPU
    close()
    return sums.gene_sums(), collector.pairs()


def shard_writer(
    work: Workspace, settings: AttributionSettings, split: str
) -> tuple[Callable[[Attribution, np.ndarray], None] | None, Callable[[], None]]:
    """What writes each batch's scores and what finishes it; nothing unless `save=pairs`."""
    if settings.save != "pairs" or split != "test":
        return None, lambda: None
    vocabulary = work.loaded.vocabulary
    writer = PairShardWriter(
        table_folder(work, settings) / "pairs",
        vocabulary.genes,
        vocabulary.phenotypes,
        work.key("attribute"),
    )
    return writer.write, writer.close


def rankings_of(
    work: Workspace, settings: AttributionSettings, sums: GeneSums
) -> list[GeneRanking]:
    """Every meaningful importance of one method over the model's whole panel, both signs."""
    genes = work.loaded.vocabulary.genes
    rankings = []
    for name in ranking_names(work, settings):
        importance, _, absolute = name.partition("/")[2].partition("/")
        score_g = sums.mean(importance)[: len(genes)]
        rankings.append(GeneRanking(name, genes, np.abs(score_g) if absolute else score_g))
    return rankings


def ranking_names(work: Workspace, settings: AttributionSettings) -> list[str]:
    """Names of the rankings that one method makes: `<method>/<importance>[/abs]`."""
    baseline: BaselineStrategy = build(work.cfg.baseline)
    method = settings.method.name
    meaningful = Importance.meaningful(method, baseline.name, settings.target_kind)
    return [f"{method}/{i.name}{suffix}" for i in meaningful for suffix in ("", "/abs")]


def main_importance(work: Workspace, settings: AttributionSettings) -> str:
    """The importance that makes a method's table: the configured one where it is the main method.

    Raises
    ------
    AttributionError
        If the configured importance is meaningless for the method and baseline, or the method
        cannot explain against the baseline.
    """
    choice: RankingChoice = build(work.cfg.ranking)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    name = settings.method.name
    if settings is work.settings and choice.importance is not None:
        return Importance(choice.importance, name, baseline.name, settings.target_kind).name
    default = default_importance(name, baseline.name)
    return Importance(default, name, baseline.name, settings.target_kind).name


def write_tables(
    work: Workspace,
    settings: AttributionSettings,
    sums: GeneSums,
    pairs: pd.DataFrame,
    cells: Cells,
    plan: PairPlan,
) -> None:
    """Write `genes.parquet` and `pairs.parquet` of one method and its completeness."""
    choice: RankingChoice = build(work.cfg.ranking)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    vocabulary, method = work.loaded.vocabulary, settings.method.name
    table = build_gene_table(
        sums,
        expression_of_pairs(cells, plan, vocabulary.bin_edges[0]),
        vocabulary.phenotypes,
        main_importance(work, settings),
        choice.sign,
        {
            "method": method,
            "baseline": baseline.name,
            "target": f"{work.facts.target}: {work.facts.input} against {work.facts.baseline}",
            "model": str(work.checkpoint),
            "split": "test",
            "seed": work.facts.seed,
            "config_hash": work.key("attribute"),
        },
    )
    folder = table_folder(work, settings)
    write_parquet(table.frame, folder / "genes.parquet")
    write_parquet(pairs, folder / "pairs.parquet")
    summary = completeness_summary(pairs, settings.method.is_complete)
    work.add_metrics({f"attribution/{method}/{k}": v for k, v in summary.items()})


def table_folder(work: Workspace, settings: AttributionSettings) -> Path:
    """`attributions/` for the main method, a folder below it for each compared one."""
    folder = work.folder / "attributions"
    return folder if settings is work.settings else folder / settings.method.name


def forget_others(work: Workspace) -> None:
    """Remove what an earlier configuration left and a report would show beside these tables."""
    folder = work.folder / "attributions"
    present = {table_folder(work, settings) for settings in work.attributions}
    stale = [t.parent for t in folder.glob("*/genes.parquet") if t.parent not in present]
    if work.settings.save != "pairs":
        stale += [path / "pairs" for path in present]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    for name in ("curves.parquet", "summary.parquet"):
        (work.folder / "pruning" / name).unlink(missing_ok=True)


def tell_plan(work: Workspace, plan: PairPlan) -> None:
    """Say and record how many pairs there are and which cells found no baseline."""
    work.add_metrics({"pairs/n_pairs": len(plan), "pairs/n_skipped": plan.n_skipped})
    for row in plan.skipped.itertuples():
        work.console.print(f"[yellow]skipped {row.n_cells} input cells: {row.reason}[/]")
