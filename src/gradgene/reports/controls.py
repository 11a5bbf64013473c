"""What the sanity checks and the measures of stability say of a run: cautions and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.evaluation.agreement import disputed
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles

__all__ = ["agreement_names", "control_cautions", "control_figures", "judged_by"]

#: Halves of the pairs that agree less than this make a list that other pairs would not.
STEADY = 0.5
#: So many genes below 0.05 are no accident: even were all genes one, the median of three draws is
#: beyond this in less than one run of a hundred.
CHANCE = 0.2
#: Level, title and text of a caution.
Said = tuple[str, str, str]


def judged_by(sanity: pd.DataFrame) -> str:
    """The column that the verdict rests on: "spearman", or "spearman_abs" for magnitudes."""
    return str(sanity["judged_by"].iloc[0]) if "judged_by" in sanity else "spearman"


def control_cautions(run: RunFiles) -> Iterator[Said]:
    """What a reader must know of these checks before believing anything."""
    metrics = run.metrics or {}
    method, size = run.method or "The method", metrics.get("sanity/randomised")
    threshold = _threshold(run)
    if run.sanity is not None and "sanity/passed" not in metrics:
        yield (
            "error",
            "The sanity check has no verdict",
            f"In some or all draws of random weights the scores of {method} have no order to "
            "compare with the trained model's. Whether they explain what this model learnt is not "
            "known.",
        )
    if metrics.get("sanity/passed") == 0:
        yield (
            "error",
            "Random weights rank genes the same",
            f"{method} gives a model with random weights a similar or reversed ranking (size of "
            f"the rank correlation with the trained one: {number(size)}; beyond "
            f"{number(threshold)} the check fails). "
            "Its scores do not explain what this model learnt, and nothing below can be believed "
            "to do so.",
        )
    stays = metrics.get("sanity/same_gene_shuffled")
    if stays is not None and stays > threshold:
        yield (
            "warning",
            "Genes keep their place whatever their values",
            "With the genes' values exchanged, each gene still scores much as before (rank "
            f"correlation {number(stays)}): the ranking says more about what the model holds of a "
            "gene than about these cells.",
        )
    moves = metrics.get("sanity/same_values_shuffled")
    if moves is not None and moves > threshold:
        yield (
            "warning",
            "Values make the ranking, whatever the gene",
            "With the genes' values exchanged, scores move along with the values (rank correlation "
            f"{number(moves)}): the ranking says more about the cells than about the model.",
        )
    yield from _label_cautions(metrics, threshold)
    overlap = metrics.get("stability/top_overlap")
    if overlap is not None and overlap < STEADY:
        yield (
            "warning",
            "Other pairs would give other genes",
            f"Two rankings of {number(int(metrics['stability/n_pairs']))} pairs each share "
            f"{percent(round(float(overlap), 2))} of their best genes.",
        )


def _label_cautions(metrics: Mapping[str, float], threshold: float) -> Iterator[Said]:
    """What labels without meaning gave all the same."""
    share = metrics.get("sanity/labels_permuted_p_share")
    if share is not None and share > CHANCE:
        yield (
            "warning",
            "Labels that mean nothing give small p",
            f"With labels permuted within donors, {percent(round(float(share), 2))} of the genes "
            "still differ from exchanged labels at p < 0.05, where about 5 % should: the p_null of "
            "this method and baseline cannot be trusted.",
        )
    learnt = metrics.get("sanity/labels_relearnt")
    if learnt is not None and learnt > threshold:
        yield (
            "warning",
            "Learning labels that mean nothing ranks the genes the same",
            "A model trained on permuted labels ranks the genes much as this one (rank correlation "
            f"{number(learnt)}): the ranking says more about the cells and the architecture than "
            "about what tells the labels apart.",
        )


def control_figures(run: RunFiles) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Name of each figure there is data for, and the call that draws it."""
    sanity, stability, agreement = run.sanity, run.stability, run.agreement
    if sanity is not None and (sanity["check"] == "randomisation").any():
        yield "sanity", lambda: plotting.sanity_checks(sanity)
    if stability is not None:
        pairs = stability[stability["kind"] == "pairs"]
        donors = stability[stability["kind"] == "donors"]
        if len(pairs):
            enough = (run.metrics or {}).get("stability/n_pairs_enough")
            top_k = int(pairs["top_k"].iloc[0]) if "top_k" in pairs else None
            n = None if enough is None else int(enough)
            yield "pair_stability", lambda: plotting.pair_stability(pairs, n, top_k=top_k)
        if len(donors):
            yield "donor_stability", lambda: plotting.donor_stability(donors)
    if agreement is not None and agreement["first"].nunique() > 1:
        names = agreement_names(run)
        yield (
            "agreement",
            lambda: plotting.ranking_agreement(agreement, names, run.ranking_name),
        )
    if run.consensus is not None and len(disputed(run.consensus)):
        at_odds = disputed(run.consensus)
        yield "disputed_genes", lambda: plotting.disputed_genes(at_odds)


def agreement_names(run: RunFiles, most: int = 12) -> list[str]:
    """The rankings to compare in a figure: all of them, or one a method where they are too many.

    Those of the consensus and their other sign come first in such a choice.
    """
    if run.agreement is None:
        return []
    names = [str(name) for name in run.agreement["first"].unique()]
    if len(names) <= most:
        return names
    voters = [] if run.consensus is None else list(run.consensus.columns)
    kept = {name.removeprefix("rank/") for name in voters if name.startswith("rank/")}
    kept |= {run.ranking_name or ""}
    both = {*kept, *(f"{n}/abs" for n in kept), *(n.removesuffix("/abs") for n in kept)}
    if sum(name in both for name in names) <= most:
        kept = both
    return [name for name in names if name in kept][:most]


def _threshold(run: RunFiles) -> float:
    found = run.sanity
    return 0.5 if found is None or "threshold" not in found else float(found["threshold"].iloc[0])
