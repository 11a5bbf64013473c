"""From one attribution to its table, as in a notebook."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gradgene.attribution import Attribution, Target, build_method
from gradgene.cells import Cells
from gradgene.errors import AttributionError
from gradgene.genes import Importance, rank_genes
from gradgene.pairs import BASELINES, BlendedBatch, PairPlan, PairSampler, blend
from gradgene.tokens import Tokenizer, Vocabulary
from tests.planted import make_cells, make_model, make_tokenizer

TARGET = Target("disease", "case", "control")


@dataclass(frozen=True)
class Explained:
    """Pairs of four donors, two baselines a cell, and their scores."""

    result: Attribution
    cells: Cells
    plan: PairPlan
    vocabulary: Vocabulary


def explained(
    method: str = "deeplift", baseline: str = "cell_state", per_cell: int = 2
) -> Explained:
    counts = make_cells(n=40, n_genes=20)
    tokenizer = make_tokenizer(counts)
    cells = tokenizer.prepare(counts)
    sampler = PairSampler("disease", "case", "control", ("sex",), per_cell=per_cell, max_pairs=16)
    plan = sampler.sample(cells)
    blended = blended_of(tokenizer, cells, plan)
    model = make_model(tokenizer.vocabulary)
    result = build_method(method).attribute(model, blended, TARGET, BASELINES[baseline]())
    return Explained(result, cells, plan, tokenizer.vocabulary)


def blended_of(tokenizer: Tokenizer, cells: Cells, plan: PairPlan) -> BlendedBatch:
    rows = (torch.from_numpy(r) for r in (plan.input_rows, plan.baseline_rows))
    return blend(tokenizer.encode(cells), *rows)


@pytest.fixture(scope="module")
def study() -> Explained:
    return explained()


def of(study: Explained) -> tuple[Attribution, Target, Cells, PairPlan, Vocabulary]:
    """The arguments of `rank_genes`."""
    return study.result, TARGET, study.cells, study.plan, study.vocabulary


def test_scores_are_means_over_the_pairs(study: Explained) -> None:
    frame = rank_genes(*of(study)).frame.set_index("gene")
    ids, scores = study.result.gene_ids_pt.numpy(), study.result.forward.scores_pt.numpy()
    for g, gene in enumerate(study.vocabulary.genes):
        if gene in frame.index:
            assert frame["score"][gene] == pytest.approx(scores[ids == g].sum() / len(study.plan))
    assert frame["rank"].notna().sum() >= 19


def test_has_the_evidence_of_donors_and_of_exchanged_labels(study: Explained) -> None:
    frame = rank_genes(*of(study)).genes
    assert study.plan.table["donor_input"].nunique() >= 3
    for column in ("ci_low", "p", "p_null", "between_baseline_variance", "depth_correlation"):
        known = frame.loc[frame["mean_abs"] > 0, column]
        assert known.notna().all(), column
    again = rank_genes(*of(study)).genes
    assert again["p_null"].tolist() == frame["p_null"].tolist()
    other = rank_genes(*of(study), seed=1).genes
    assert not np.allclose(other["p_null"], frame["p_null"])
    assert rank_genes(*of(study), n_null=0).genes["p_null"].isna().all()


def test_one_pair_a_cell_says_nothing_of_baselines() -> None:
    frame = rank_genes(*of(explained(per_cell=1))).frame
    assert frame["between_baseline_variance"].isna().all()


def test_fewer_than_three_donors_on_a_side_give_no_interval(study: Explained) -> None:
    table = study.plan.table
    keep = table["donor_baseline"].isin(sorted(set(table["donor_baseline"]))[:2]).to_numpy()
    rows = np.flatnonzero(keep)
    plan = study.plan.take(rows)
    assert plan.table["donor_input"].nunique() >= 3 and plan.n_donors_baseline == 2
    tokenizer = make_tokenizer(make_cells(n=40, n_genes=20))
    blended = blended_of(tokenizer, study.cells, plan)
    model = make_model(study.vocabulary)
    for baseline, importance, interval in (
        ("cell_state", None, False),
        ("empty", None, False),
        ("empty", "forward", True),
    ):
        against = BASELINES[baseline]()
        result = build_method("deeplift").attribute(model, blended, TARGET, against)
        cells = study.cells, plan, study.vocabulary
        frame = rank_genes(result, TARGET, *cells, importance=importance).genes
        # Scores of input cells against nothing rest on no baseline cell and its donor.
        assert frame["ci_low"].notna().any() == interval
        assert frame["score_donors"].notna().all()


def test_another_importance(study: Explained) -> None:
    frame = rank_genes(*of(study), importance="contrast", sign="absolute").genes
    assert (frame["score"] == frame["contrast"]).all()
    assert frame["score"].abs().is_monotonic_decreasing
    with pytest.raises(AttributionError, match="meaningless"):
        rank_genes(*of(study), importance="paper_mean")


@pytest.mark.parametrize("baseline", ["cell_state", "empty", "mean"])
def test_every_importance_makes_a_table(baseline: str) -> None:
    made = explained("grad_x_delta", baseline)
    for importance in Importance.meaningful("grad_x_delta", baseline, "margin"):
        frame = rank_genes(*of(made), importance=importance.name).genes
        assert np.isfinite(frame["score"]).all()
        symmetric = importance.name.startswith("paper_")
        assert frame["p_null"].isna().all() == symmetric
