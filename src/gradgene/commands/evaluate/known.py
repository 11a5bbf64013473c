"""Judge rankings against what is known of the contrast: genes, published effects, gene sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from gradgene.cells import Cells
from gradgene.commands.config.binding import build
from gradgene.commands.prune.stage import read_rankings
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import ConfigError, closest
from gradgene.evaluation import (
    Evaluation,
    Evidence,
    KnownEffects,
    PooledScores,
    effect_agreement,
    recovered,
)
from gradgene.genes import GeneTable, enrich, require_gseapy, scored_genes
from gradgene.pruning import (
    GeneRanking,
    PruningSettings,
    RankingChoice,
    deg_ranking,
    expression_ranking,
    hvg_ranking,
    random_rankings,
)
from gradgene.store import write_parquet

__all__ = ["check_known", "compare_with_known"]

#: Label of the one gene table of a study without tables by label.
EVERY = ""
EFFECT_COLUMNS = ["ranking", "label", "n_genes", "spearman"]


def check_known(work: Workspace) -> None:
    """Refuse before any work an evaluation that cannot be done at its end.

    Raises
    ------
    GradgeneError
        For a file that is missing or does not hold what it should, labels that no cell has, genes
        that are all called otherwise than in the data, or a package that is not installed.
    """
    evaluation: Evaluation = build(work.cfg.evaluation)
    evidence = evaluation.read()
    if evidence.gene_sets is not None:
        require_gseapy()
        _require_shared(work, evidence.gene_sets.genes, "evaluation.gene_sets")
    if evidence.effects is not None:
        _require_shared(work, evidence.effects["gene"], "evaluation.effects.file")
        assert evaluation.effects is not None  # it was read
        _require_labels(work, evaluation.effects, evidence.effects)


def compare_with_known(work: Workspace) -> None:
    """Count known genes in every ranking, and judge the tables of held-out pairs.

    Writes `recovery/…` and `effects/…` metrics, `attributions/effects.parquet` and
    `attributions/enrichment.parquet`; of what is not configured no file of before is left.

    Attribution and pruning have been run here with the present settings.
    """
    evaluation: Evaluation = build(work.cfg.evaluation)
    evidence = evaluation.read()
    if evidence.known_genes is not None:
        rankings = [*read_rankings(work, "attributions"), *read_controls(work)]
        count_known(work, rankings, evidence.known_genes, evaluation.top_k)
    agreement = compare_effects(work, evaluation, evidence)
    found = find_sets(work, evaluation, evidence)
    for name, frame in (("effects", agreement), ("enrichment", found)):
        file = work.folder / "attributions" / f"{name}.parquet"
        if frame is None:
            file.unlink(missing_ok=True)
        else:
            write_parquet(frame, file)


def read_controls(work: Workspace) -> list[GeneRanking]:
    """The controls that pruning used: rankings that are of no attribution method."""
    frame = pd.read_parquet(work.folder / "pruning" / "rankings.parquet")
    frame = frame[~frame["ranking"].str.contains("/")]
    return GeneRanking.read(frame, work.loaded.vocabulary.genes)


def count_known(
    work: Workspace, rankings: list[GeneRanking], known: frozenset[str], top_k: int
) -> None:
    """How many of the best genes of each ranking are known; random ones are averaged."""
    counts = pd.DataFrame(
        [(r.name, recovered(r, known, top_k)) for r in rankings], columns=["name", "n"]
    )
    means = counts.groupby("name", sort=False)["n"].mean()
    work.add_metrics({f"recovery/{name}@{top_k}": n for name, n in means.items()})


def find_sets(work: Workspace, evaluation: Evaluation, evidence: Evidence) -> pd.DataFrame | None:
    """Gene sets that the best genes of the main method fall into; None without gene sets."""
    if evidence.gene_sets is None:
        return None
    table = GeneTable(pd.read_parquet(work.folder / "attributions" / "genes.parquet"))
    background = scored_genes(table)
    top_k = min(evaluation.top_k, len(background) - 1)
    return enrich(table, evidence.gene_sets, top_k=top_k, background=background)


def compare_effects(
    work: Workspace, evaluation: Evaluation, evidence: Evidence
) -> pd.DataFrame | None:
    """Agreement of every ranking with published effects, label by label; None without effects.

    Rankings are those of held-out pairs. The usual controls are made anew on the held-out cells of
    each label, which the pairs are drawn from: made on training cells, as for pruning, they would
    describe other cells than the scores do. `log_fold_change` is the pairs' own fold change, and
    `random` what its sign alone achieves.
    """
    if evidence.effects is None:
        return None
    assert evaluation.effects is not None  # it was read
    labels = _members(work, evaluation.effects, evidence.effects)
    rankings, table = _by_label(work, evaluation.effects)
    rows = []
    for label, members in labels.items():
        published = evidence.effects[evidence.effects["label"] == label]
        published_g = published.set_index("gene")["log_fold_change"]
        pooled = PooledScores.of(rankings, table, members)
        scores = [(str(name), pooled.scores_gr[name]) for name in pooled.scores_gr]
        scores.append(("log_fold_change", pooled.change_g.abs()))
        scores += _control_scores(work, _cells_of(work, members))
        for name, score_g in scores:
            found = effect_agreement(score_g, pooled.direction_g, published_g)
            rows.append((name, label, found.n_genes, found.spearman))
    frame = pd.DataFrame(rows, columns=EFFECT_COLUMNS)
    # Draws of a random ranking are averaged; NaN stays NaN.
    frame = frame.groupby(["ranking", "label"], sort=False, as_index=False).mean()
    frame["n_genes"] = frame["n_genes"].astype(int)
    medians = frame.groupby("ranking", sort=False)["spearman"].median().dropna()
    work.add_metrics({f"effects/{name}": float(value) for name, value in medians.items()})
    return frame


def _by_label(work: Workspace, effects: KnownEffects) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`ranking, label, gene, score` and the gene tables by label, of held-out pairs."""
    folder = work.folder / "attributions"
    if _split(work, effects):
        rankings = pd.read_parquet(folder / "rankings_by_label.parquet")
        return rankings, pd.read_parquet(folder / "genes_by_label.parquet")
    rankings = pd.read_parquet(folder / "rankings.parquet").assign(label=EVERY)
    # A table of one's own is ranked too, but is no score of these pairs.
    rankings = rankings[rankings["ranking"].str.contains("/")]
    return rankings, pd.read_parquet(folder / "genes.parquet").assign(label=EVERY)


def _split(work: Workspace, effects: KnownEffects) -> bool:
    """Whether labels are compared one by one; otherwise the whole study is, with each of them."""
    choice: RankingChoice = build(work.cfg.ranking)
    return choice.by is not None and effects.label is not None


def _members(
    work: Workspace, effects: KnownEffects, published: pd.DataFrame
) -> dict[str, tuple[str, ...]]:
    """Published label -> labels of the data."""
    labels = effects.members(published)
    return labels if _split(work, effects) else dict.fromkeys(labels, (EVERY,))


def _cells_of(work: Workspace, members: tuple[str, ...]) -> Cells:
    """The held-out cells of these labels of `ranking.by`; all of them for `EVERY`."""
    cells = work.data.part("test")
    if members == (EVERY,):
        return cells
    choice: RankingChoice = build(work.cfg.ranking)
    return cells.take(np.flatnonzero(cells.obs[choice.by].isin(members).to_numpy()))


def _control_scores(work: Workspace, cells: Cells) -> Iterator[tuple[str, pd.Series]]:
    """Magnitudes of the usual controls on `cells`; none where a side has less than two cells."""
    facts = work.facts
    settings: PruningSettings = build(work.cfg.pruning)
    counts = cells.counts_of(facts.target)
    made = random_rankings(cells.genes, settings.n_random, facts.seed)
    if min(counts.get(facts.input, 0), counts.get(facts.baseline, 0)) >= 2:
        made += [
            hvg_ranking(cells),
            deg_ranking(cells, facts.target, facts.input, facts.baseline),
            expression_ranking(cells),
        ]
    for ranking in made:
        score_g = pd.Series(ranking.scores_g, index=list(ranking.genes))
        # Normalised dispersions of steady genes are negative; times a direction they would count
        # as an effect the other way.
        yield ranking.name, score_g - score_g.min() if ranking.name == "hvg" else score_g


def _require_labels(work: Workspace, effects: KnownEffects, published: pd.DataFrame) -> None:
    """Raise `ConfigError` unless each published label has a label of the cells."""
    if not _split(work, effects):
        return
    choice: RankingChoice = build(work.cfg.ranking)
    parts = [work.data.part(name) for name in work.data.split.names]
    known = {label for part in parts for label in part.counts_of(str(choice.by))}
    members = effects.members(published)
    # Labels that are mapped by hand must all be known; of a whole file some is enough.
    wanted = [m for names in members.values() for m in names]
    unknown = [name for name in wanted if name not in known]
    if unknown and (effects.labels or len(unknown) == len(wanted)):
        raise ConfigError(
            f"no cell has the {choice.by} {unknown[0]!r}",
            where="evaluation.effects.labels",
            expected=f"one of {closest(unknown[0], known)}",
        )


def _require_shared(work: Workspace, genes: Iterable[str], where: str) -> None:
    """Raise `ConfigError` where no gene of a file is in the model's panel."""
    panel = work.data.part("test").genes
    named = sorted(set(genes))
    if not set(panel).intersection(named):
        raise ConfigError(
            "no gene is in the model's panel",
            where=where,
            expected=f"names such as {', '.join(panel[:3])}",
            found=", ".join(named[:3]),
            fix="use the same species and kind of name; see data.gene_key",
        )
