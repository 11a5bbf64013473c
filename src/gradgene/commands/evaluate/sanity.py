"""Sanity checks of the main method: random weights, shuffled genes, labels without meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gradgene.cells import Cells
from gradgene.commands.attribute.running import main_importance, new_sums
from gradgene.commands.attribute.sampled_pairs import (
    held_out_pairs,
    sample_of,
    score_sample,
)
from gradgene.commands.config.binding import build
from gradgene.commands.evaluate.relearning import forget_relearnt, relearnt
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import EvaluationError, PairError
from gradgene.evaluation import Evaluation
from gradgene.evaluation.randomisation import cascade, randomised, shuffle_genes
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.evaluation.sanity import (
    LEVEL,
    Control,
    Sanity,
    SanityVerdict,
    judge_sanity,
    sanity_table,
    typical,
)
from gradgene.genes import null_p
from gradgene.pairs import PairPlan, PairSampler
from gradgene.pruning import RankingChoice
from gradgene.store import write_parquet

__all__ = ["measure_sanity", "refuse_insane"]


@dataclass(frozen=True)
class Sample:
    """The pairs every check explains, and their scores from the trained model."""

    work: Workspace
    settings: Sanity
    cells: Cells
    plan: PairPlan
    trained: SampledScores

    def seed(self, draw: int) -> int:
        """Seed of a draw."""
        return self.settings.seed + draw


def measure_sanity(work: Workspace, settings: Sanity) -> None:
    """Write `evaluation/sanity.parquet` and `sanity/…` metrics, and say how it went.

    The model is borrowed: random ones are copies.
    """
    cells, whole = held_out_pairs(work)
    plan = sample_of(whole, settings.n_pairs, settings.seed)
    trained, p_share = _explain(work, cells, plan)
    sample = Sample(work, settings, cells, plan, trained)
    n_pairs = len(trained.kept)
    controls = [Control("reference", "trained", trained.score_g, n_pairs, p_share=p_share)]
    with work.console.status("sanity") as status:
        for check in (_random_models, _shuffled_genes, _permuted_labels):
            for control in check(sample):
                controls.append(control)
                status.update(f"sanity: {control.check}, {control.step}, draw {control.draw + 1}")
    controls += _relearnt_labels(sample)  # trainings show their own progress
    frame = sanity_table(trained.score_g, trained.share_g, controls)
    frame = pd.concat([frame.iloc[:1], _halves(sample), frame.iloc[1:]], ignore_index=True)
    choice: RankingChoice = build(work.cfg.ranking)
    by = "spearman_abs" if choice.sign == "absolute" else "spearman"
    verdict = judge_sanity(frame, settings.threshold, by)
    facts: dict[str, Any] = {
        "method": work.settings.method.name,
        "importance": main_importance(work, work.settings).name,
        "judged_by": by,
        "threshold": settings.threshold,
        "passed": verdict.passed,
    }
    write_parquet(frame.assign(**facts), work.folder / "evaluation" / "sanity.parquet")
    forget_relearnt(work)
    work.add_metrics(_metrics(frame, verdict, by))
    _tell(work, settings, verdict)


def refuse_insane(work: Workspace) -> None:
    """Raise at the very end of a command if this run failed its sanity check.

    Everything is written by then; with `evaluation.sanity.on_failure=warn` nothing is raised.

    Raises
    ------
    EvaluationError
        If a fully random model ranks genes like the trained one.
    """
    evaluation: Evaluation = build(work.cfg.evaluation)
    settings = evaluation.sanity
    file = work.folder / "metrics.json"
    if settings is None or settings.on_failure == "warn" or not file.is_file():
        return
    metrics = json.loads(file.read_text())
    if metrics.get("sanity/passed") != 0:
        return
    raise EvaluationError(
        f"a model with random weights ranks genes like the trained one: {work.settings.method.name}"
        " does not explain what this model learnt",
        where=str(work.folder / "evaluation" / "sanity.parquet"),
        expected=f"a rank correlation of at most {settings.threshold:g} in either direction, "
        "for every draw",
        found=f"{metrics['sanity/randomised']:.2f} in the worst of the draws (median "
        f"{metrics.get('sanity/randomised_median', metrics['sanity/randomised']):.2f})",
        fix="use another attribution or importance, or a model that learnt more; all results are "
        "written, and evaluation.sanity.on_failure=warn accepts them (by magnitude, how often a "
        "gene is seen makes rankings alike: compare the column spearman_abs_given_share)",
    )


def _explain(work: Workspace, cells: Cells, plan: PairPlan) -> tuple[SampledScores, float]:
    """Scores of the trained model, and the share of genes that differ from exchanged labels."""
    sums = new_sums(work, work.settings, cells, plan).to(work.device)
    scores = score_sample(work, work.loaded.model, cells, plan, sums)
    found = sums.gene_sums()
    if found.null is None:
        return scores, float("nan")
    n_genes = len(scores.share_g)
    p_g = null_p(found.mean(found.main), found.null)[:n_genes]
    p_g = p_g[np.isfinite(p_g)]
    return scores, float((p_g < LEVEL).mean()) if len(p_g) else float("nan")


def _halves(sample: Sample) -> pd.DataFrame:
    """How alike two halves of the pairs are, input cell by input cell: what there is to lose."""
    input_p = sample.plan.input_rows[sample.trained.kept]
    inputs = np.random.default_rng(sample.settings.seed).permutation(np.unique(input_p))
    first_p = np.isin(input_p, inputs[: len(inputs) // 2])
    scores_pg = sample.trained.scores_pg
    if first_p.all() or not first_p.any():
        halves = np.zeros(scores_pg.shape[1]), None
    else:
        halves = (
            scores_pg[first_p].mean(axis=0, dtype=np.float64),
            scores_pg[~first_p].mean(axis=0, dtype=np.float64),
        )
    note = "" if halves[1] is not None else "there is only one input cell"
    n_smaller = int(min(first_p.sum(), (~first_p).sum()))
    control = Control("reference", "two halves", halves[1], n_smaller, note=note)
    return sanity_table(halves[0], sample.trained.share_g, [control])


def _random_models(sample: Sample) -> Iterator[Control]:
    """The cascade, from the head down to a model that is random throughout."""
    model = sample.work.loaded.model
    for draw in range(sample.settings.n_draws):
        for depth, step in enumerate(cascade(model), 1):
            drawn = randomised(model, depth, sample.seed(draw))
            found = score_sample(sample.work, drawn, sample.cells, sample.plan)
            n_pairs, seed = len(found.kept), sample.seed(draw)
            yield Control("randomisation", step, found.score_g, n_pairs, depth, draw, seed)


def _shuffled_genes(sample: Sample) -> Iterator[Control]:
    """The trained model on cells whose genes were exchanged."""
    for draw in range(sample.settings.n_draws):
        seed = sample.seed(draw)
        cells, from_g = shuffle_genes(sample.cells, seed)
        found = score_sample(sample.work, sample.work.loaded.model, cells, sample.plan)
        n_pairs, moved_g = len(found.kept), np.empty_like(found.score_g)
        moved_g[from_g] = found.score_g  # back to the gene whose values they are of
        for step, score_g in (("same gene", found.score_g), ("same values", moved_g)):
            yield Control("gene_shuffle", step, score_g, n_pairs, draw=draw, seed=seed)


def _permuted_labels(sample: Sample) -> Iterator[Control]:
    """The trained model on as many pairs drawn by permuted labels."""
    work, n_pairs = sample.work, len(sample.plan)
    sampler: PairSampler = build(work.cfg.pairs)
    for draw in range(sample.settings.n_draws):
        seed = sample.seed(draw)
        drawer = replace(sampler, file=None, max_pairs=n_pairs, seed=seed, permute_labels=seed)
        step = "permuted labels"
        try:
            cells, plan = held_out_pairs(work, drawer)
        except PairError as error:
            note = str(error.what)
            yield Control("label_permutation", step, None, 0, draw=draw, seed=seed, note=note)
            return
        found, p_share = _explain(work, cells, plan)
        yield Control(
            "label_permutation",
            step,
            found.score_g,
            len(found.kept),
            draw=draw,
            seed=seed,
            p_share=p_share,
        )


def _relearnt_labels(sample: Sample) -> Iterator[Control]:
    """Models that learnt permuted labels, on the pairs of the true ones."""
    n = sample.settings.n_retrained
    for draw in range(n):
        seed = sample.seed(draw)
        sample.work.console.print(f"training {draw + 1} of {n} on permuted labels")
        model = relearnt(sample.work, seed)
        found = score_sample(sample.work, model, sample.cells, sample.plan)
        step, n_pairs = "trained on permuted labels", len(found.kept)
        yield Control("label_relearning", step, found.score_g, n_pairs, draw=draw, seed=seed)


def _metrics(frame: pd.DataFrame, verdict: SanityVerdict, by: str) -> dict[str, float]:
    """Medians over draws, and the greatest, which decides; what could not be made is left out."""
    randomised_ = frame[frame["check"] == "randomisation"]
    last = randomised_[randomised_["depth"] == randomised_["depth"].max()]
    labels = frame[frame["check"] == "label_permutation"]
    found = {
        "sanity/randomised": verdict.similarity,
        "sanity/randomised_median": verdict.typical,
        "sanity/randomised_undefined": float(verdict.n_undefined),
        "sanity/randomised_spearman": typical(last["spearman"]),
        "sanity/randomised_spearman_abs": typical(last["spearman_abs"]),
        "sanity/same_gene_shuffled": typical(frame.loc[frame["step"] == "same gene", by]),
        "sanity/same_values_shuffled": typical(frame.loc[frame["step"] == "same values", by]),
        "sanity/labels_permuted_size": typical(labels["relative_size"]),
        "sanity/labels_permuted_p_share": typical(labels["p_share"]),
        "sanity/labels_relearnt": typical(frame.loc[frame["check"] == "label_relearning", by]),
        "sanity/two_halves": typical(frame.loc[frame["step"] == "two halves", by]),
    }
    if verdict.passed is not None:
        found["sanity/passed"] = float(verdict.passed)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _tell(work: Workspace, settings: Sanity, verdict: SanityVerdict) -> None:
    size, method = verdict.similarity, work.settings.method.name
    of = f"in {verdict.n_undefined} of {verdict.n_draws} draws"
    said = (
        "random weights rank genes with a correlation of at most "
        f"{size:.2f} to the trained model (median {verdict.typical:.2f} of {verdict.n_draws} draws)"
    )
    if verdict.passed is None:
        work.console.print(
            f"[bold red]sanity: NO VERDICT: {of} the scores of {method} have no order to compare; "
            "this run has not been shown to explain what the model learnt[/]"
        )
    elif verdict.passed:
        work.console.print(f"sanity: {said} (at most {settings.threshold:g}): passed")
    else:
        work.console.print(
            f"[bold red]sanity: FAILED: {said}, where at most {settings.threshold:g} is sane; "
            f"{method} does not explain what this model learnt[/]"
        )
