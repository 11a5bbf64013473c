"""Measure the faithfulness of every attribution method of a study on a sample of its pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradgene.attribution import AttributionSettings, RandomScores
from gradgene.cells import Cells
from gradgene.commands.attribute.running import table_folder
from gradgene.commands.attribute.sampled_pairs import held_out_pairs, sample_of
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.evaluation import (
    AopcLimits,
    Faithfulness,
    Infidelity,
    Removal,
    SwapGap,
    Units,
    completeness_summary,
    infidelity,
    max_sensitivity,
    measured,
    normalised_aopc,
    read_attainable_aopc,
    read_random_swaps,
    read_removal,
    read_swap_gap,
    reading,
)
from gradgene.lit import PlannedPairs, pair_batches
from gradgene.pairs import BaselineStrategy, BlendedBatch, EmptyBaseline, PairPlan
from gradgene.store import write_parquet

__all__ = ["check_faithfulness", "measure_faithfulness"]


@dataclass(frozen=True)
class Scorer:
    """What gives scores of the input's genes: an attribution method or a control.

    `explain` takes pairs and a baseline; `in_units_of_f` says that scores are contributions to f.
    """

    name: str
    explain: Callable[[BlendedBatch, BaselineStrategy], Tensor]
    in_units_of_f: bool


@dataclass
class Found:
    """What was measured of one scorer, batch by batch."""

    gaps: list[SwapGap] = field(default_factory=list)
    infidelities: list[Infidelity] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    sensitivities: list[Tensor] = field(default_factory=list)


def check_faithfulness(work: Workspace, settings: Faithfulness) -> None:
    """Refuse before any work what could not be measured.

    Raises
    ------
    GradgeneError
        For a method that there is none of, or that does not fit the baseline.
    """
    baseline: BaselineStrategy = build(work.cfg.baseline)
    for attribution in _attributions(work, settings):
        attribution.method.require_baseline(type(baseline))


def measure_faithfulness(work: Workspace, settings: Faithfulness) -> None:
    """Write `evaluation/faithfulness.parquet` and the metrics `faithfulness/<method>/<measure>`.

    Swaps and perturbations are against the study's baseline. Removal is from the input alone, and
    judges scores that the same method gives against the empty baseline.
    """
    cells, plan = _sample(work, settings)
    scorers = [*_scorers(work, settings)]
    found = {scorer.name: Found() for scorer in scorers}
    limits: list[AopcLimits] = []
    tokenizer, order = work.loaded.tokenizer, []
    served = PlannedPairs(cells, tokenizer, plan)
    searched_p = np.random.default_rng(work.facts.seed).permutation(len(plan)) < settings.n_searched
    batches = [*pair_batches(cells, tokenizer, plan, work.batch_tokens(work.settings))]
    with work.console.status(f"faithfulness of {len(plan)} pairs"):
        for pairs in batches:
            blended = served[pairs].to(work.device)
            _measure_swaps(work, settings, blended, scorers, found)
            limits += _measure_removal(
                work, settings, blended, scorers, found, np.flatnonzero(searched_p[pairs])
            )
            _measure_sensitivity(work, settings, blended, scorers, found)
            order.append(pairs)
    pairs = np.concatenate(order)
    donors_p = None if work.facts.donor is None else plan.donors[pairs]
    units = Units(plan.input_rows[pairs], donors_p)
    rows = []
    chance = SwapGap.joined(found["random"].gaps)
    for scorer in scorers:
        rows += _rows(scorer, found[scorer.name], chance, units, work.facts.seed)
    if limits:
        joined, searched = AopcLimits.joined(limits), np.flatnonzero(searched_p[pairs])
        rows += _normalised(found, joined, searched, units.take(searched), work.facts.seed)
    rows += _ledgers(work)
    _write(work, pd.DataFrame(rows))


def _measure_swaps(
    work: Workspace,
    settings: Faithfulness,
    blended: BlendedBatch,
    scorers: list[Scorer],
    found: dict[str, Found],
) -> None:
    """Swap-gap and infidelity, against the baseline of the study."""
    baseline: BaselineStrategy = build(work.cfg.baseline)
    scores = {s.name: s.explain(blended, baseline) for s in scorers}
    forward = baseline.passes(blended)[0].blended
    with reading(work.loaded.model, forward, _target(work), settings.batch_tokens) as reader:
        swaps = read_random_swaps(reader, settings.n_sets, work.facts.seed)
        for name, scores_pt in scores.items():
            found[name].gaps.append(read_swap_gap(reader, scores_pt))
            found[name].infidelities.append(infidelity(swaps, scores_pt))


def _measure_removal(
    work: Workspace,
    settings: Faithfulness,
    blended: BlendedBatch,
    scorers: list[Scorer],
    found: dict[str, Found],
    searched: np.ndarray,
) -> list[AopcLimits]:
    """What deleting genes does, and its limits for the pairs at the positions `searched`."""
    scores = {s.name: s.explain(blended, EmptyBaseline()) for s in scorers}
    alone = blended.without_baseline_genes()
    with reading(work.loaded.model, alone, _target(work), settings.batch_tokens) as reader:
        for name, scores_pt in scores.items():
            found[name].removals.append(read_removal(reader, scores_pt))
        if not len(searched):
            return []
        rows = torch.from_numpy(searched).to(reader.gene_ids_pt.device)
        return [read_attainable_aopc(reader.take(rows))]


def _measure_sensitivity(
    work: Workspace,
    settings: Faithfulness,
    blended: BlendedBatch,
    scorers: list[Scorer],
    found: dict[str, Found],
) -> None:
    """How scores change with a few bins; not measured where there is one bin only."""
    baseline: BaselineStrategy = build(work.cfg.baseline)
    vocabulary = work.loaded.vocabulary
    if len(vocabulary.bins) < 2:
        return
    for scorer in scorers:

        def explain(pairs: BlendedBatch, scorer: Scorer = scorer) -> Tensor:
            return scorer.explain(pairs, baseline)

        change_p = max_sensitivity(explain, blended, vocabulary, settings.n_draws, work.facts.seed)
        found[scorer.name].sensitivities.append(change_p)


def _rows(
    scorer: Scorer, found: Found, chance: SwapGap, units: Units, seed: int
) -> list[dict[str, Any]]:
    """The rows of one scorer: value and interval of every measure of all its pairs."""
    gap, removal = SwapGap.joined(found.gaps), Removal.joined(found.removals)
    infidel = Infidelity.joined(found.infidelities)
    parts: dict[str, tuple[Tensor, Tensor | None]] = {
        "swap_gap": (gap.gap_p, gap.change_p),
        "swap_gap_beyond_random": (gap.gap_p - chance.gap_p, gap.change_p),
        "infidelity_scaled": (infidel.scaled_error_p, infidel.change_p),
    }
    if scorer.in_units_of_f:
        parts["infidelity"] = (infidel.error_p, None)
    if found.sensitivities:
        parts["sensitivity_max"] = (torch.cat(found.sensitivities), None)
    parts |= {
        "comprehensiveness": (removal.comprehensiveness_p, None),
        "sufficiency": (removal.sufficiency_p, None),
        "aopc": (removal.aopc_p, None),
    }
    return [
        measured(scorer.name, name, top_p, bottom_p, units, seed)
        for name, (top_p, bottom_p) in parts.items()
    ]


def _normalised(
    found: dict[str, Found],
    limits: AopcLimits,
    searched: np.ndarray,
    units: Units,
    seed: int,
) -> list[dict[str, Any]]:
    """AOPC of the searched pairs between its limits, of every scorer."""
    aopc = {name: Removal.joined(f.removals).aopc_p[searched] for name, f in found.items()}
    return [
        measured(name, "aopc_normalised", share_p, None, units, seed)
        for name, share_p in normalised_aopc(aopc, limits).items()
    ]


def _ledgers(work: Workspace) -> Iterator[dict[str, Any]]:
    """What the scores of all pairs of the study leave unexplained, method by method."""
    for settings in work.attributions:
        pairs = pd.read_parquet(table_folder(work, settings) / "pairs.parquet")
        summary = completeness_summary(pairs, settings.method.is_complete)
        n_donors = 0 if work.facts.donor is None else pairs["donor_input"].nunique()
        for measure in ("relative_delta_p50", "relative_delta_p99"):
            yield {
                "method": settings.method.name,
                "measure": measure,
                "value": summary[measure],
                "ci_low": float("nan"),
                "ci_high": float("nan"),
                "interval_over": "",
                "n_pairs": len(pairs),
                "n_donors": n_donors,
                "higher_is_better": False,
                "seed": work.facts.seed,
            }


def _write(work: Workspace, frame: pd.DataFrame) -> None:
    """The table, a method after the other, and one metric a row that has a value."""
    methods = [*dict.fromkeys(frame["method"])]
    frame = frame.sort_values("method", key=lambda m: m.map(methods.index), kind="stable")
    write_parquet(frame.reset_index(drop=True), work.folder / "evaluation" / "faithfulness.parquet")
    work.add_metrics(
        {
            f"faithfulness/{method}/{measure}": float(value)
            for method, measure, value in zip(
                frame["method"], frame["measure"], frame["value"], strict=True
            )
            if np.isfinite(value)
        }
    )


def _sample(work: Workspace, settings: Faithfulness) -> tuple[Cells, PairPlan]:
    """Held-out pairs that all methods have scores of, with their cells."""
    cells, plan = held_out_pairs(work)
    file = work.folder / "attributions" / "skipped_pairs.parquet"
    if file.is_file():
        skipped = pd.read_parquet(file)
        left_out = set(skipped.loc[skipped["split"] == "test", "pair"])
        plan = plan.take(np.flatnonzero(~plan.table["pair"].isin(left_out).to_numpy()))
    return cells, sample_of(plan, settings.max_pairs, work.facts.seed)


def _scorers(work: Workspace, settings: Faithfulness) -> Iterator[Scorer]:
    """The methods of the study, those asked for, and the controls: chance and expression."""
    for attribution in _attributions(work, settings):

        def explain(
            blended: BlendedBatch, baseline: BaselineStrategy, of: AttributionSettings = attribution
        ) -> Tensor:
            method = of.method.holding(work.batch_tokens(of))
            found = method.attribute(work.loaded.model, blended, _target(work), baseline)
            return found.forward.scores_pt

        name = attribution.method.name
        yield Scorer(name, explain, in_units_of_f=name != RandomScores.name)

    offset = work.loaded.vocabulary.bin_offset

    def bins(blended: BlendedBatch, baseline: BaselineStrategy) -> Tensor:
        own_pt = blended.input.gene_ids_nt >= 0
        return (blended.input.input_ids_nt - offset).masked_fill(~own_pt, 0)

    yield Scorer("expression", bins, in_units_of_f=False)


def _attributions(work: Workspace, settings: Faithfulness) -> list[AttributionSettings]:
    """The methods of the study and then the others, each once, and `random`."""
    where = "evaluation.faithfulness.also"
    names = (*settings.also, RandomScores.name)
    found = {a.method.name: a for a in work.attributions}
    for attribution in (work.attribution_leaf(name, where) for name in names):
        found.setdefault(attribution.method.name, attribution)
    return [*found.values()]


def _target(work: Workspace) -> Any:
    facts = work.facts
    return work.settings.target(facts.target, facts.input, facts.baseline)
