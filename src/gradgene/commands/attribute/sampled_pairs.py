"""A sample of a study's held-out pairs, and one method run over it without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from gradgene.attribution import Attribution, AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.attribute.running import main_importance, module_of
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.genes import GeneSumsMetric
from gradgene.lit import PlannedPairs, pair_batches
from gradgene.lit.explaining import Explained
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BaselineStrategy, PairPlan, PairSampler

__all__ = ["explained_pairs", "held_out_pairs", "sample_of", "score_sample"]

Found = Iterator[tuple[np.ndarray, Attribution]]


def held_out_pairs(work: Workspace, sampler: PairSampler | None = None) -> tuple[Cells, PairPlan]:
    """The held-out pairs that the study attributes, with their cells; or those of a `sampler`."""
    drawer: PairSampler = sampler or build(work.cfg.pairs)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    cells = work.data.part("test")
    return baseline.arrange(cells, drawer.sample(cells))


def sample_of(plan: PairPlan, n_pairs: int, seed: int) -> PairPlan:
    """At most `n_pairs` pairs of a plan, drawn from all of them, in the order of the plan.

    Whole input cells are drawn, with all their pairs, so that pairs of one input stay together;
    the last one gives as many as are still wanted.
    """
    if len(plan) <= n_pairs:
        return plan
    _, input_p = np.unique(plan.input_rows, return_inverse=True)
    place_i = np.random.default_rng(seed).permutation(int(input_p.max()) + 1)
    chosen = np.argsort(place_i[input_p], kind="stable")[:n_pairs]
    return plan.take(np.sort(chosen))


def explained_pairs(
    work: Workspace,
    settings: AttributionSettings,
    model: PhenotypeGeneTransformer,
    cells: Cells,
    plan: PairPlan,
) -> Found:
    """Attributions of a plan's pairs by a method, batch by batch, with their positions.

    Raises
    ------
    AttributionError
        For a pair without finite scores, unless `attribution.on_error=skip`: then it is left out.
    """
    tokenizer = work.loaded.tokenizer
    on_error: Literal["raise", "skip"] = "skip" if settings.on_error == "skip" else "raise"
    module = module_of(work, settings, model, on_error)
    batches = pair_batches(
        cells, tokenizer, plan, work.batch_tokens(settings), per_cell=settings.method.per_cell
    )
    served = PlannedPairs(cells, tokenizer, plan)
    for pairs in batches.batches:  # all of them, also where several processes share others
        found = module.predict_step(served[pairs].to(work.device), 0)
        if not isinstance(found, Explained):
            yield pairs, found
        elif found.attribution is not None:
            yield pairs[found.kept], found.attribution


def score_sample(
    work: Workspace,
    model: PhenotypeGeneTransformer,
    cells: Cells,
    plan: PairPlan,
    sums: GeneSumsMetric | None = None,
) -> SampledScores:
    """The main method's score of each pair and gene, for any model of the same vocabulary.

    `sums` is given every batch as well.
    """
    settings = work.settings
    found = explained_pairs(work, settings, model, cells, plan)
    if sums is not None:
        found = _counted(found, sums)
    return SampledScores.of(
        found,
        main_importance(work, settings),
        len(plan),
        len(work.loaded.vocabulary.genes),
        settings.normalize,
    )


def _counted(found: Found, sums: GeneSumsMetric) -> Found:
    for pairs, attribution in found:
        sums.update(attribution, torch.from_numpy(np.asarray(pairs)))
        yield pairs, attribution
