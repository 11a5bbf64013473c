"""`gradgene prune`: cut the model's genes by several rankings and judge what is left."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.progress import track

from gradgene.cells import Cells
from gradgene.commands.attribute import main_importance, ranking_names
from gradgene.commands.binding import build
from gradgene.commands.evaluate import check_evaluation, evaluate
from gradgene.commands.options import Options
from gradgene.commands.workspace import Workspace
from gradgene.errors import OutputError, RankingError, closest
from gradgene.pruning import (
    GeneRanking,
    Judged,
    PruningSettings,
    RankingChoice,
    deg_ranking,
    expression_ranking,
    hvg_ranking,
    prune,
    random_rankings,
    table_ranking,
)
from gradgene.store import write_parquet

__all__ = ["check_pruning", "prune_genes", "run"]


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Prune by rankings that `gradgene attribute` or `study` left in the same folder."""
    work = Workspace(cfg, output_dir)
    check_pruning(work)
    if options.dry_run:
        work.plan("prune")
        return
    work.write_provenance()
    work.stage("prune", prune_genes)


def check_pruning(work: Workspace) -> None:
    """Refuse before any work what pruning would refuse at its end.

    Raises
    ------
    GradgeneError
        For an impossible grid, a ranking that will not be computed, or an impossible evaluation.
    """
    settings: PruningSettings = build(work.cfg.pruning)
    build(work.cfg.ranking)
    check_evaluation(work)
    if isinstance(settings.rankings, tuple):
        known = [name for a in work.attributions for name in ranking_names(work, a)]
        for name in settings.rankings:
            require_ranking(name, known)


def require_ranking(name: str, known: Iterable[str]) -> None:
    """Raise `RankingError` unless `name` is among the `known` rankings."""
    if name not in known:
        raise RankingError(
            f"no ranking {name!r}",
            where="pruning.rankings",
            expected=f"one of {closest(name, known)}",
        )


def prune_genes(work: Workspace) -> None:
    """Write the rankings used, the curves and the areas against random, and judge rankings."""
    settings: PruningSettings = build(work.cfg.pruning)
    training = work.data.part("train")
    from_pairs = read_rankings(work, "pruning")
    controls = control_rankings(work, settings, training)
    chosen = [*pick(work, settings, from_pairs), *controls]
    curve = prune(
        work.loaded.model,
        judged_cells(work),
        chosen,
        settings,
        lambda rankings: _tracked(work, list(rankings)),
    )
    folder = work.folder / "pruning"
    used = [r.to_pandas("train") for r in (*from_pairs, *_new(controls, from_pairs))]
    write_parquet(pd.concat(used), folder / "rankings.parquet")
    write_parquet(curve.frame, folder / "curves.parquet")
    write_parquet(curve.summary(), folder / "summary.parquet")
    n_labels = len(work.loaded.vocabulary.label_ids(work.facts.target))
    work.add_metrics({"pruning/chance": 1 / n_labels})
    evaluate(work, [*read_rankings(work, "attributions"), *controls])


def judged_cells(work: Workspace) -> Judged:
    """The held-out cells of both labels."""
    data, facts = work.data, work.facts
    return Judged.of(
        data.part("test"), data.tokenizer, facts.target, facts.input, facts.baseline, facts.seed
    )


def read_rankings(work: Workspace, folder: str) -> list[GeneRanking]:
    """The attribution rankings in `<folder>/rankings.parquet`, over the model's panel.

    Raises
    ------
    OutputError
        If attribution has not been run here with the present settings.
    """
    file = work.folder / folder / "rankings.parquet"
    if not file.is_file() or not work.is_done("attribute"):
        raise OutputError(
            "no attributions of this configuration",
            where=str(work.folder),
            fix="run `gradgene study` or `gradgene attribute` with the same settings first",
        )
    genes = work.loaded.vocabulary.genes
    frame = pd.read_parquet(file)
    frame = frame[frame["ranking"].str.contains("/")]
    return [
        GeneRanking(str(name), genes, part.set_index("gene")["score"].loc[list(genes)].to_numpy())
        for name, part in frame.groupby("ranking", sort=False)
    ]


def control_rankings(
    work: Workspace, settings: PruningSettings, training: Cells
) -> list[GeneRanking]:
    """Controls made on training cells only."""
    facts, choice = work.facts, build(work.cfg.ranking)
    wanted = [*settings.controls]
    if choice.kind not in ("attribution", "table", *wanted):
        wanted.append(choice.kind)
    made: list[GeneRanking] = []
    with work.console.status("ranking genes by the usual controls"):
        if "hvg" in wanted:
            made.append(hvg_ranking(training))
        if "deg" in wanted:
            made.append(deg_ranking(training, facts.target, facts.input, facts.baseline))
        if "expression" in wanted:
            made.append(expression_ranking(training))
        if "random" in wanted:
            made += random_rankings(training.genes, settings.n_random, facts.seed)
        if choice.kind == "table":
            made.append(table_ranking(Path(choice.file).expanduser(), training.genes))
    return made


def pick(
    work: Workspace, settings: PruningSettings, rankings: list[GeneRanking]
) -> list[GeneRanking]:
    """The attribution rankings that the settings ask for.

    Raises
    ------
    RankingError
        For a name that was not computed.
    """
    by_name = {r.name: r for r in rankings}
    if settings.rankings == "all":
        return rankings
    names: Iterable[str] = settings.rankings
    if settings.rankings == "main":
        choice: RankingChoice = build(work.cfg.ranking)
        suffix = "/abs" if choice.sign == "absolute" else ""
        names = [f"{a.method.name}/{main_importance(work, a)}{suffix}" for a in work.attributions]
    for name in names:
        require_ranking(name, by_name)
    return [by_name[name] for name in names]


def _new(rankings: list[GeneRanking], before: list[GeneRanking]) -> list[GeneRanking]:
    names = {r.name for r in before}
    return [r for r in rankings if r.name not in names]


def _tracked(work: Workspace, rankings: list[GeneRanking]) -> Iterable[GeneRanking]:
    return track(rankings, description="pruning", console=work.console)
