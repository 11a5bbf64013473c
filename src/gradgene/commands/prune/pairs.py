"""Prune held-out pairs by their own scores, and a model of random weights in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.attribution import Attribution, AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.attribute.sampled_pairs import explained_pairs, held_out_pairs
from gradgene.commands.config.binding import build
from gradgene.commands.prune.progress import PieceFiles
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import AttributionError
from gradgene.evaluation.randomisation import cascade, randomised
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.genes import Importance
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BaselineStrategy, PairPlan
from gradgene.pruning import (
    RANDOM_WEIGHTS,
    Arms,
    GeneRanking,
    Point,
    PruningCurve,
    PruningSettings,
    Track,
    curve_of,
    places,
    predict_pairs,
)

__all__ = ["prune_by_pair"]

#: Pairs attributed, pruned and kept together.
PAIRS_A_PIECE = 64

#: Positions of pairs in the plan, and (points, members, labels) what is said of them.
Found = tuple[np.ndarray, np.ndarray]


def prune_by_pair(
    work: Workspace,
    settings: PruningSettings,
    names: Sequence[str],
    controls: Sequence[GeneRanking],
    track: Track,
    progress: PieceFiles,
) -> PruningCurve:
    """Curves of the held-out pairs, each pruned by its own scores.

    The attribution rankings `names` are made anew for each pair; `controls` order its union by
    their places in the panel. Of each of `names` there is a second curve, its name followed by
    `RANDOM_WEIGHTS`: a model of the same shape and of untrained weights makes its own scores and is
    pruned by them, which is what the leak alone is worth.

    Raises
    ------
    AttributionError
        If no pair has scores.
    """
    cells, plan = held_out_pairs(work)
    model, by_name = work.loaded.model.eval(), {name: _ranking(work, name) for name in names}
    untrained = randomised(model, len(cascade(model)), work.facts.seed).eval()
    runs = [
        _Run(work, settings, model, by_name, controls, "trained"),
        _Run(work, settings, untrained, by_name, (), "untrained"),
    ]
    starts = range(0, len(plan), PAIRS_A_PIECE)
    pieces = [(i, np.arange(len(plan))[k : k + PAIRS_A_PIECE]) for i in range(2) for k in starts]
    found: dict[tuple[int, int], Found] = {}
    for i, pairs in track(pieces):  # in any order
        found[i, int(pairs[0])] = runs[i].piece(cells, plan, pairs, progress)
    trained, null = (
        run.curve([found[i, start] for start in starts], plan) for i, run in enumerate(runs)
    )
    return PruningCurve(
        *(
            pd.concat([a, b.assign(ranking=b["ranking"] + RANDOM_WEIGHTS)], ignore_index=True)
            for a, b in ((trained.frame, null.frame), (trained.by_donor, null.by_donor))
            if a is not None and b is not None
        )
    )


@dataclass(frozen=True)
class _Ranking:
    """How a ranking's name reads: the method's settings, the importance, and which sign."""

    settings: AttributionSettings
    importance: Importance
    absolute: bool


def _ranking(work: Workspace, name: str) -> _Ranking:
    """The ranking of a name `<method>/<importance>[/abs]`."""
    method, _, rest = name.partition("/")
    importance, _, sign = rest.partition("/")
    settings = next(a for a in work.attributions if a.method.name == method)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    made = Importance(importance, method, baseline.name, settings.target_kind)
    return _Ranking(settings, made, sign == "abs")


@dataclass(frozen=True)
class _Run:
    """One model whose pairs are pruned by its own scores and by `controls`."""

    work: Workspace
    settings: PruningSettings
    model: PhenotypeGeneTransformer
    by_name: Mapping[str, _Ranking]
    controls: Sequence[GeneRanking]
    tag: str

    def piece(self, cells: Cells, plan: PairPlan, pairs: np.ndarray, progress: PieceFiles) -> Found:
        """What is said of these pairs of the plan, kept from before or found now."""
        name = f"{self.tag}-{pairs[0]}"
        kept, p_kmc = progress.read(f"{name}-pairs"), progress.read(name)
        if kept is None or p_kmc is None:
            kept, scores_rpg = self._scores(cells, plan.take(pairs))
            rows = [rows_p[pairs[kept]] for rows_p in (plan.input_rows, plan.baseline_rows)]
            members = self.work.loaded.tokenizer.encode(cells.take(np.concatenate(rows)))
            target = self.work.facts.target
            p_kmc = predict_pairs(self.model, members, scores_rpg, self.settings, target)
            progress.write(f"{name}-pairs", kept)
            progress.write(name, p_kmc)
        return pairs[kept], p_kmc

    def _scores(self, cells: Cells, plan: PairPlan) -> tuple[np.ndarray, list[np.ndarray]]:
        """The pairs that have scores by all methods, and (pairs, genes) of each ranking."""
        n_genes = len(self.work.loaded.vocabulary.genes)
        methods = {r.settings.method.name: r.settings for r in self.by_name.values()}
        batches = {
            name: [*explained_pairs(self.work, settings, self.model, cells, plan)]
            for name, settings in methods.items()
        }
        kept = np.arange(len(plan))
        for of_method in batches.values():  # under on_error=skip some pairs may have no scores
            kept = np.intersect1d(kept, np.concatenate([[], *(pairs for pairs, _ in of_method)]))
        kept = kept.astype(np.int64)
        found = []
        for ranking in self.by_name.values():
            made = _dense(ranking, batches[ranking.settings.method.name], len(plan), n_genes)
            found.append(made[kept])
        for control in self.controls:
            found.append(np.broadcast_to(-places(control), (len(kept), n_genes)))
        return kept, found

    def curve(self, found: Sequence[Found], plan: PairPlan) -> PruningCurve:
        """The curves over all pairs; the arms are the two members of each."""
        facts, labels = self.work.facts, self.work.loaded.vocabulary.categories
        pairs = np.concatenate([kept for kept, _ in found])
        if not len(pairs):
            raise AttributionError("no pair has scores", where="attribution.on_error")
        of_input, of_baseline = (
            np.concatenate(
                [p_kmc.reshape(len(p_kmc), 2, -1, p_kmc.shape[-1])[:, half] for _, p_kmc in found],
                axis=1,
            )
            for half in range(2)
        )
        p_kmc = np.concatenate([of_input, of_baseline], axis=1)
        label_of = labels[facts.target].index
        arms = Arms(
            np.repeat([label_of(facts.input), label_of(facts.baseline)], len(pairs)),
            self._donors(plan.take(pairs)),
            labels[facts.target],
            facts.input,
            facts.baseline,
        )
        about = {"rank_source": "per_pair", "split": "test", "seed": facts.seed}
        return curve_of(self._points(p_kmc, arms), arms, about)

    def _points(self, p_kmc: np.ndarray, arms: Arms) -> Iterator[Point]:
        whole_m = arms.true(p_kmc[0])
        rankings = [(name, 0) for name in self.by_name]
        rankings += [(control.name, control.draw) for control in self.controls]
        ats = [
            {"ranking": name, "draw": draw, "order": order, "ratio": ratio}
            for name, draw in rankings
            for order, ratio in self.settings.points
        ]
        for at, p_mc in zip(ats, p_kmc[1:], strict=True):
            yield Point(at, p_mc, whole_m)

    def _donors(self, plan: PairPlan) -> np.ndarray | None:
        """(members,) donors; "" for a baseline that is of several. None without donors."""
        if self.work.facts.donor is None:
            return None
        columns = [plan.table[f"donor_{member}"] for member in ("input", "baseline")]
        return pd.concat(columns).fillna("").to_numpy(dtype=str)


def _dense(
    ranking: _Ranking, batches: Sequence[tuple[np.ndarray, Attribution]], n_pairs: int, n_genes: int
) -> np.ndarray:
    """(pairs, genes) scores of a ranking; 0 for pairs that have none."""
    score_pg = np.zeros((n_pairs, n_genes), dtype=np.float32)
    if batches:
        made = SampledScores.of(
            batches, ranking.importance, n_pairs, n_genes, ranking.settings.normalize
        )
        score_pg[made.kept] = np.abs(made.scores_pg) if ranking.absolute else made.scores_pg
    return score_pg
