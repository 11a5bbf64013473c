"""Scores of single pairs are those a gene table is the mean of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradgene.attribution import Attribution, Target, build_method
from gradgene.errors import AttributionError
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.genes import Importance, rank_genes
from gradgene.pairs import PairSampler, blend
from tests.planted import make_cells, make_model, make_tokenizer

TARGET = Target("disease", "case", "control")
COUNTS = make_cells(n=40, n_genes=20)
TOKENIZER = make_tokenizer(COUNTS)
CELLS = TOKENIZER.prepare(COUNTS)
PLAN = PairSampler("disease", "case", "control", ("sex",), max_pairs=8).sample(CELLS)
MODEL = make_model(TOKENIZER.vocabulary)
TOKENS = TOKENIZER.encode(CELLS)


def explained(pairs: list[int], method: str = "grad_x_delta") -> tuple[np.ndarray, Attribution]:
    rows = (torch.from_numpy(r[pairs]) for r in (PLAN.input_rows, PLAN.baseline_rows))
    found = build_method(method).attribute(MODEL, blend(TOKENS, *rows), TARGET)
    return np.array(pairs), found


@pytest.mark.parametrize("name", ["contrast", "paper_mean"])
def test_their_mean_is_the_score_of_the_table(name: str) -> None:
    importance = Importance(name, "grad_x_delta")
    batches = [explained([5, 0, 2]), explained([1, 3, 4, 6, 7])]
    found = SampledScores.of(batches, importance, 8, 20)
    whole = explained(list(range(8)))[1]
    table = rank_genes(whole, TARGET, CELLS, PLAN, TOKENIZER.vocabulary, name).frame
    score = table.set_index("gene")["score"].reindex(TOKENIZER.vocabulary.genes).fillna(0)
    assert found.score_g == pytest.approx(score.to_numpy(), abs=1e-6)
    assert found.share_g == pytest.approx(
        [float((whole.gene_ids_pt == g).any(dim=1).double().mean()) for g in range(20)]
    )
    assert found.kept.tolist() == list(range(8))
    other = SampledScores.of(batches[::-1], importance, 8, 20)
    assert np.array_equal(found.scores_pg, other.scores_pg)


def test_normalised_scores_have_length_one() -> None:
    importance = Importance("forward", "grad_x_delta")
    found = SampledScores.of([explained(list(range(8)))], importance, 8, 20, "l2")
    assert np.linalg.norm(found.scores_pg, axis=1) == pytest.approx(np.ones(8), abs=1e-5)


def test_pairs_without_scores_are_left_out_of_the_mean() -> None:
    importance = Importance("contrast", "grad_x_delta")
    whole = SampledScores.of([explained(list(range(8)))], importance, 8, 20)
    part = SampledScores.of([explained([1, 6])], importance, 8, 20)
    assert part.kept.tolist() == [1, 6]
    assert part.score_g == pytest.approx(whole.scores_pg[[1, 6]].mean(axis=0), abs=1e-6)
    with pytest.raises(AttributionError, match="no pair"):
        SampledScores.of([], importance, 8, 20)
