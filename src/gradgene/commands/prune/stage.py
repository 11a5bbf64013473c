"""`gradgene prune`: cut the model's genes by several rankings and judge what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from gradgene.commands.attribute.stage import ranking_names, ranking_of
from gradgene.commands.config.binding import build
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.estimate.pruning import measure_pruning
from gradgene.commands.line.options import Options
from gradgene.commands.prune.controls import (
    check_controls,
    control_rankings,
    main_ranking,
    n_controls,
)
from gradgene.commands.prune.pairs import prune_by_pair
from gradgene.commands.prune.progress import PieceFiles, Share
from gradgene.commands.prune.retrain import check_retrain, n_retrained, retrain_pruned
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.sweep.planned import Estimate
from gradgene.commands.train.stage import stand_in, training_estimate
from gradgene.errors import OutputError, RankingError, closest
from gradgene.pruning import (
    GeneRanking,
    Judged,
    PruningCurve,
    PruningSettings,
    prune,
)
from gradgene.store import write_parquet

__all__ = ["check_pruning", "forecast_pruning", "prune_genes", "run"]


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Prune by rankings that `gradgene attribute` or `study` left in the same folder."""
    with Workspace(cfg, output_dir) as work:
        check_pruning(work)
        if options.dry_run:
            stand_in(work)
            tell_stages(work, {"prune": forecast_pruning}, planned=options.planned)
            return
        work.fetch_before("prune")
        work.write_provenance()
        work.stage("prune", prune_genes)


def forecast_pruning(work: Workspace) -> Forecast:
    """How many rankings on how many cells, tried on some of the cells."""
    settings: PruningSettings = build(work.cfg.pruning)
    if settings.rank_source == "per_pair":
        return Forecast("every held-out pair by its own scores")
    judged = judged_cells(work)
    n = len(names_of(work, settings)) + n_controls(work, settings)
    said = f"{n} orders at {len(settings.points)} points, {len(judged.tokens)} cells"
    takes = measure_pruning(work.loaded.model.eval(), judged, settings, n)
    n_models = n_retrained(work, settings)
    if n_models:
        again, said = training_estimate(work), f"{said}; {n_models} trainings without genes"
        seconds = takes.seconds + n_models * again.seconds
        takes = Estimate(seconds, max(takes.peak_mb, again.peak_mb))
    return Forecast(said, takes, "the control rankings and the curves")


def check_pruning(work: Workspace) -> None:
    """Refuse before any work what pruning would refuse at its end.

    Raises
    ------
    GradgeneError
        For an impossible grid or a ranking that will not be computed.
    """
    settings: PruningSettings = build(work.cfg.pruning)
    build(work.cfg.ranking)
    check_controls(work)
    check_retrain(work, settings)
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
    """Write the rankings used, the curves and the areas against random.

    What an interrupted run of the same settings predicted is not predicted again; the tables are
    the same to the byte. Of several processes each predicts its share of the pieces.
    """
    settings: PruningSettings = build(work.cfg.pruning)
    training = work.data.part("train")
    from_pairs = read_rankings(work, "pruning")
    controls = control_rankings(work, settings, training, from_pairs)
    chosen, progress, share = pick(work, settings, from_pairs), PieceFiles(work), Share(work)
    if settings.rank_source == "per_pair":
        names = [ranking.name for ranking in chosen]
        curve = share.of(lambda: prune_by_pair(work, settings, names, controls, share, progress))
    else:
        model, judged = work.loaded.model, judged_cells(work)
        rankings = [*chosen, *controls]
        curve = share.of(lambda: prune(model, judged, rankings, settings, share, progress))
    if curve is not None:
        write_curve(work, curve, [*from_pairs, *_new(controls, from_pairs)])
    retrain_pruned(work, settings, [*from_pairs, *controls])
    if work.is_main:
        progress.clear()


def write_curve(work: Workspace, curve: PruningCurve, rankings: Sequence[GeneRanking]) -> None:
    """Write the curves, their areas against random, and the rankings."""
    folder = work.folder / "pruning"
    write_parquet(pd.concat(r.to_pandas("train") for r in rankings), folder / "rankings.parquet")
    write_parquet(curve.frame, folder / "curves.parquet")
    assert curve.by_donor is not None  # as made just now
    write_parquet(curve.by_donor, folder / "curves_by_donor.parquet")
    summary = curve.summary()
    write_parquet(summary, folder / "summary.parquet")
    n_labels = len(work.loaded.vocabulary.label_ids(work.facts.target))
    work.add_metrics({"pruning/chance": 1 / n_labels, **areas_of(summary, main_ranking(work))})


def areas_of(summary: pd.DataFrame, ranking: str) -> dict[str, float]:
    """`pruning/area/<order>/main`: area of balanced accuracy of the study's ranking, if it has one.

    Named alike in every run, so that the jobs of a sweep over rankings can be compared.
    """
    both = summary[(summary["arm"] == "both") & (summary["metric"] == "balanced_accuracy")]
    mine = both[both["ranking"] == ranking]
    return {
        f"pruning/area/{order}/main": float(area)
        for order, area in zip(mine["order"], mine["area"], strict=True)
    }


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
    frame = pd.read_parquet(file)
    frame = frame[frame["ranking"].str.contains("/")]
    return GeneRanking.read(frame, work.loaded.vocabulary.genes)


def pick(
    work: Workspace, settings: PruningSettings, rankings: list[GeneRanking]
) -> list[GeneRanking]:
    """The attribution rankings that the settings ask for.

    Raises
    ------
    RankingError
        For a name that was not computed.
    """
    if settings.rankings == "all":
        return rankings
    by_name, names = {r.name: r for r in rankings}, names_of(work, settings)
    for name in names:
        require_ranking(name, by_name)
    return [by_name[name] for name in names]


def names_of(work: Workspace, settings: PruningSettings) -> list[str]:
    """Names of the attribution rankings that the settings ask for."""
    if settings.rankings == "all":
        return [name for a in work.attributions for name in ranking_names(work, a)]
    if settings.rankings != "main":
        return [*settings.rankings]
    return [ranking_of(work, a) for a in work.attributions]


def _new(rankings: list[GeneRanking], before: list[GeneRanking]) -> list[GeneRanking]:
    names = {r.name for r in before}
    return [r for r in rankings if r.name not in names]
