"""The control rankings that a study prunes by beside its own, made on training cells only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gradgene.cells import Cells
from gradgene.commands.attribute.stage import ranking_of
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import ConfigError, RankingError
from gradgene.pruning import (
    GeneRanking,
    PruningSettings,
    RankingChoice,
    deg_ranking,
    expression_ranking,
    hvg_batch_ranking,
    hvg_ranking,
    matched_rankings,
    pseudobulk_ranking,
    random_rankings,
    table_ranking,
)

__all__ = [
    "check_controls",
    "control_rankings",
    "main_ranking",
    "n_controls",
    "wanted_controls",
]

#: Controls that need donors or batches.
OVER_DONORS = ("hvg_batch", "deg_pseudobulk")


def check_controls(work: Workspace) -> None:
    """Raise `ConfigError` where the study is about a control that needs a column it does not name.

    As a mere comparison such a control is left out with a word, see `control_rankings`.
    """
    facts, choice = work.facts, build(work.cfg.ranking)
    needs = {
        "deg_pseudobulk": (facts.donor, "study.donor"),
        "hvg_batch": (facts.batch or facts.donor, "study.batch or study.donor"),
    }
    column, where = needs.get(choice.kind, ("", ""))
    if column is None:
        raise ConfigError(
            f"ranking={choice.kind} has nothing to tell cells apart by",
            where="ranking",
            expected=f"a column in {where}",
        )


def control_rankings(
    work: Workspace,
    settings: PruningSettings,
    training: Cells,
    from_pairs: Sequence[GeneRanking],
) -> list[GeneRanking]:
    """Controls made on training cells only, in the order of `settings`.

    `from_pairs` are the attribution rankings of training pairs, the main one among them:
    `random_matched` is drawn to match it, or the control that the study is about. Controls over
    donors or batches are left out, which is said, where the training cells have too few of them.
    """
    facts, main = work.facts, main_ranking(work)
    labels = facts.target, facts.input, facts.baseline
    make: dict[str, Callable[[], list[GeneRanking]]] = {
        "hvg": lambda: [hvg_ranking(training)],
        "hvg_batch": lambda: [hvg_batch_ranking(training)],
        "deg": lambda: [deg_ranking(training, *labels)],
        "deg_pseudobulk": lambda: [pseudobulk_ranking(training, *labels)],
        "expression": lambda: [expression_ranking(training)],
        "random": lambda: random_rankings(training.genes, settings.n_random, facts.seed),
        "table": lambda: [_table(work, training.genes)],
    }
    wanted = wanted_controls(work, settings)
    made: list[GeneRanking] = []
    with work.console.status("ranking genes by the usual controls"):
        for name in wanted:
            try:
                made += make[name]() if name in make else []
            except RankingError as error:
                if name not in OVER_DONORS or name == main:
                    raise
                work.console.print(f"left out {name}: {error.what}", style="yellow", markup=False)
        if "random_matched" in wanted:
            ranking = {r.name: r for r in [*from_pairs, *made]}[main]
            made += matched_rankings(ranking, training, settings.n_random, facts.seed)
    return made


def wanted_controls(work: Workspace, settings: PruningSettings) -> list[str]:
    """Names of the controls of the settings, and of the one that the study is about, if it is."""
    choice: RankingChoice = build(work.cfg.ranking)
    own = [] if choice.kind == "attribution" else [choice.kind]
    return list(dict.fromkeys([*settings.controls, *own]))


def n_controls(work: Workspace, settings: PruningSettings) -> int:
    """How many control rankings there will be, every draw of random ones for itself.

    Those over donors and batches are counted where the study names such a column.
    """
    facts = work.facts
    draws = {"random": settings.n_random, "random_matched": settings.n_random}
    if facts.donor is None:
        draws |= {"deg_pseudobulk": 0, "hvg_batch": int(facts.batch is not None)}
    return sum(draws.get(name, 1) for name in wanted_controls(work, settings))


def main_ranking(work: Workspace) -> str:
    """Name of the ranking that the study is about."""
    choice: RankingChoice = build(work.cfg.ranking)
    if choice.kind != "attribution":
        return choice.kind
    return ranking_of(work, work.settings)


def _table(work: Workspace, genes: tuple[str, ...]) -> GeneRanking:
    choice: RankingChoice = build(work.cfg.ranking)
    assert choice.file is not None  # checked where the choice was made
    return table_ranking(Path(choice.file).expanduser(), genes)
