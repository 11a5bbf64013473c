"""Everything that an attribution leaves behind: tables, rankings and figures of merit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from gradgene.attribution import AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.attribute.running import Attributed, main_importance, table_folder
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.evaluation import completeness_summary
from gradgene.genes import (
    DonorScores,
    FlagRules,
    GeneSums,
    GeneTable,
    Importance,
    batch_share,
    build_gene_table,
    depth_correlation,
    expression_of_pairs,
)
from gradgene.pairs import BaselineStrategy, PairPlan
from gradgene.pruning import GeneRanking, RankingChoice
from gradgene.store import write_parquet

__all__ = [
    "flags_of",
    "forget_others",
    "ranking_names",
    "rankings_by_label",
    "rankings_of",
    "write_cells",
    "write_left_out",
    "write_tables",
    "write_training_table",
]


def ranking_names(work: Workspace, settings: AttributionSettings) -> list[str]:
    """Names of the rankings that one method makes: `<method>/<importance>[/abs]`."""
    baseline: BaselineStrategy = build(work.cfg.baseline)
    method = settings.method.name
    meaningful = Importance.meaningful(method, baseline.name, settings.target_kind)
    return [f"{method}/{i.name}{suffix}" for i in meaningful for suffix in ("", "/abs")]


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


def rankings_by_label(
    work: Workspace, settings: AttributionSettings, sums: GeneSums
) -> list[pd.DataFrame]:
    """The same rankings over the pairs of each label: `ranking, label, gene, score`."""
    return [
        pd.DataFrame({"ranking": r.name, "label": label, "gene": r.genes, "score": r.scores_g})
        for label in sums.labels
        for r in rankings_of(work, settings, sums.of_label(label))
    ]


def write_tables(
    work: Workspace, settings: AttributionSettings, found: Attributed, cells: Cells, plan: PairPlan
) -> None:
    """Write the tables of one method over the held-out pairs, and what is measured of them."""
    kept = _kept(plan, found)
    folder = table_folder(work, settings)
    flags = flags_of(work, found.sums, cells)
    table = _gene_table(work, settings, found.sums, cells, kept, flags)
    write_parquet(table.frame, folder / "genes.parquet")
    write_parquet(found.pairs, folder / "pairs.parquet")
    choice: RankingChoice = build(work.cfg.ranking)
    by_label = folder / "genes_by_label.parquet"
    by_label.unlink(missing_ok=True)
    if choice.by is not None:
        tables = [*_label_tables(work, settings, found.sums, cells, kept, flags)]
        write_parquet(pd.concat(tables, ignore_index=True), by_label)
    donors = folder / "donors.parquet"
    donors.unlink(missing_ok=True)
    if found.sums.n_donors:
        write_parquet(_donor_scores(work, settings, found.sums), donors)
    _add_metrics(work, settings, found, kept)


def write_left_out(work: Workspace, left_out: dict[tuple[str, str], pd.DataFrame]) -> None:
    """Write the pairs without finite scores by method and split, and say how many there are.

    Under on_error=stop there are none, and no file.
    """
    file = work.folder / "attributions" / "skipped_pairs.parquet"
    file.unlink(missing_ok=True)
    if work.settings.on_error != "skip":
        return
    tables = [
        frame.assign(method=method, split=split) for (method, split), frame in left_out.items()
    ]
    columns = ["method", "split", "pair", "input", "baseline", "reason"]
    write_parquet(pd.concat(tables, ignore_index=True)[columns], file)
    for (method, split), frame in left_out.items():
        if len(frame):
            work.console.print(
                f"[yellow]{method}: left out {len(frame)} pairs of {split} cells without finite "
                f"scores; see {file.name}[/]"
            )


def write_cells(work: Workspace, cells: Cells, plan: PairPlan) -> None:
    """Write what is known of the cells of the pairs, where their scores are kept."""
    file = work.folder / "attributions" / "cells.parquet"
    file.unlink(missing_ok=True)
    if work.settings.save != "pairs":
        return
    rows = np.unique(np.concatenate([plan.input_rows, plan.baseline_rows]))
    obs = cells.obs.iloc[rows]
    frame = obs.reset_index(drop=True).astype(object).where(obs.notna().to_numpy(), None)
    frame.insert(0, "cell", obs.index.astype(str).to_numpy())
    write_parquet(frame, file)


def forget_others(work: Workspace) -> None:
    """Remove what an earlier configuration left and a report would show beside these tables."""
    folder = work.folder / "attributions"
    present = {table_folder(work, settings) for settings in work.attributions}
    stale = [t.parent for t in folder.glob("*/genes.parquet") if t.parent not in present]
    if work.settings.save != "pairs":
        stale += [path / "pairs" for path in present]
    stale.append(work.folder / "evaluation")
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    for name in ("curves.parquet", "curves_by_donor.parquet", "summary.parquet"):
        (work.folder / "pruning" / name).unlink(missing_ok=True)
    for name in ("effects.parquet", "enrichment.parquet"):  # of the rankings before
        (folder / name).unlink(missing_ok=True)


def write_training_table(
    work: Workspace, settings: AttributionSettings, found: Attributed, cells: Cells, plan: PairPlan
) -> None:
    """Write the gene table of the training pairs.

    The model has seen these cells. Their donors are more, so that there may be intervals where the
    held-out donors are too few for any.
    """
    kept = _kept(plan, found)
    flags = flags_of(work, found.sums, cells)
    table = _gene_table(work, settings, found.sums, cells, kept, flags, "train")
    write_parquet(table.frame, work.folder / "attributions" / "genes_training.parquet")


def _kept(plan: PairPlan, found: Attributed) -> PairPlan:
    """The pairs of the plan that have scores."""
    return plan.take(found.pairs["pair"].to_numpy()) if len(found.left_out) else plan


def flags_of(work: Workspace, sums: GeneSums, cells: Cells) -> pd.Series:
    """Technical flags of all genes; from all pairs, for those of a label are too few to judge."""
    rules: FlagRules = build(work.cfg.flags)
    n_genes = len(work.loaded.vocabulary.genes)
    return rules.flag(
        cells.genes,
        ensembl_ids=[e or None for e in cells.ensembl_ids],
        depth_correlation=depth_correlation(sums)[:n_genes],
        batch_share=batch_share(sums)[:n_genes],
    )


def _gene_table(
    work: Workspace,
    settings: AttributionSettings,
    sums: GeneSums,
    cells: Cells,
    plan: PairPlan,
    flags: pd.Series,
    split: str = "test",
) -> GeneTable:
    """The table of sums over the pairs of `plan`."""
    choice: RankingChoice = build(work.cfg.ranking)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    vocabulary, importance = work.loaded.vocabulary, main_importance(work, settings)
    return build_gene_table(
        sums,
        expression_of_pairs(cells, plan, vocabulary.bin_edges[0]),
        vocabulary.phenotypes,
        importance.name,
        choice.sign,
        _facts(work, settings, baseline) | {"split": split},
        # Where baseline cells have no part in the scores those of the input cells decide alone.
        n_donors_baseline=plan.n_donors_baseline if importance.reads_baseline_cells else None,
        flags=flags,
    )


def _facts(
    work: Workspace, settings: AttributionSettings, baseline: BaselineStrategy
) -> dict[str, Any]:
    return {
        "method": settings.method.name,
        "baseline": baseline.name,
        "target": f"{work.facts.target}: {work.facts.input} against {work.facts.baseline}",
        "model": str(work.checkpoint),
        "split": "test",
        "seed": work.facts.seed,
        "config_hash": work.key("attribute"),
    }


def _label_tables(
    work: Workspace,
    settings: AttributionSettings,
    sums: GeneSums,
    cells: Cells,
    plan: PairPlan,
    flags: pd.Series,
) -> Iterator[pd.DataFrame]:
    """The table of each label, with the columns `category` and `label`."""
    choice: RankingChoice = build(work.cfg.ranking)
    label_p = cells.obs[choice.by].iloc[plan.input_rows].astype(object).to_numpy()
    for label in sums.labels:
        part = plan.take(np.flatnonzero(label_p == label))
        table = _gene_table(work, settings, sums.of_label(label), cells, part, flags)
        yield table.frame.assign(category=choice.by, label=label)


def _donor_scores(work: Workspace, settings: AttributionSettings, sums: GeneSums) -> pd.DataFrame:
    """Scores of each gene in each donor, and what they are, for pooling over runs."""
    score_key = f"{settings.method.name}/{sums.main} {work.pooling_key(settings)}"
    found = DonorScores.of(sums, work.loaded.vocabulary.genes, score_key)
    return found.frame.assign(score_key=score_key)


def _add_metrics(
    work: Workspace, settings: AttributionSettings, found: Attributed, plan: PairPlan
) -> None:
    sums = found.sums
    figures: dict[str, float] = {
        **completeness_summary(found.pairs, settings.method.is_complete),
        "zero_forward": sums.zero_share("forward"),
        "zero_backward": sums.zero_share("backward"),
        "zero_importance": sums.zero_share(main_importance(work, settings).name),
        "n_donors_input": sums.n_donors,
        "n_donors_baseline": plan.n_donors_baseline,
        "n_skipped_pairs": len(found.left_out),
    }
    method = settings.method.name
    work.add_metrics({f"attribution/{method}/{name}": value for name, value in figures.items()})
