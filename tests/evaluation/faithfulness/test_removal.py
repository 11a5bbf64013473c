"""Comprehensiveness, sufficiency and AOPC by hand on a sum, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradgene.attribution import DeepLift
from gradgene.errors import AttributionError
from gradgene.pairs import EmptyBaseline
from tests.attribution.toys import (
    MARGIN,
    at_positions,
    blended_pairs,
    everything,
    random_model,
    same,
    shuffled_positions,
)
from tests.evaluation.faithfulness.linear import linear, pair, removal, scored

TEN = list(range(10))


def test_ten_genes_by_hand() -> None:
    """Gene i gives i + 1, all at bin 1: f = 55. Of 1, 5, 10 % one gene goes, of 20 % two, of 50 %
    five; in the right order they give 10, 10 + 9 and 10 + 9 + 8 + 7 + 6."""
    blended = pair(TEN, [1] * 10, [0], [4])
    model = linear(*(i + 1.0 for i in TEN))
    found = removal(model, blended, MARGIN, scored(blended, {i: float(i) for i in TEN}))
    assert found.comprehensiveness_p.tolist() == pytest.approx([(3 * 10 + 19 + 40) / 5])
    assert found.sufficiency_p.tolist() == pytest.approx([(3 * 45 + 36 + 15) / 5])
    left = [sum(range(1, n + 1)) for n in range(10, -1, -1)]
    assert found.f_removed_pk.tolist() == [left]
    assert found.aopc_p.tolist() == pytest.approx([55 - sum(left) / 11])


def test_the_reverse_order_by_hand() -> None:
    blended = pair(TEN, [1] * 10, [0], [4])
    model = linear(*(i + 1.0 for i in TEN))
    found = removal(model, blended, MARGIN, scored(blended, {i: -float(i) for i in TEN}))
    assert found.comprehensiveness_p.tolist() == pytest.approx([(3 * 1 + 3 + 15) / 5])
    assert found.sufficiency_p.tolist() == pytest.approx([(3 * 54 + 52 + 40) / 5])


def test_only_genes_of_the_input_are_removed() -> None:
    """g2 is the baseline's alone: its high score moves nothing, nor do its bins."""
    model = linear(3, 1, 50)
    blended = pair([0, 1], [1, 2], [1, 2], [4, 4])
    found = removal(model, blended, MARGIN, scored(blended, {0: 2, 1: 1, 2: 9}))
    assert found.comprehensiveness_p.tolist() == [3]
    assert found.sufficiency_p.tolist() == [2]
    assert found.f_removed_pk[0, [0, 1, -1]].tolist() == [5, 2, 0]


def test_equal_scores_are_taken_in_the_order_of_gene_ids() -> None:
    blended = pair([1, 4], [1, 1], [0], [1])
    found = removal(linear(0, 5, 0, 0, 7), blended, MARGIN, scored(blended, {1: 1, 4: 1}))
    assert found.comprehensiveness_p.tolist() == [5]


def test_all_genes_gone_is_the_empty_baseline() -> None:
    model, blended = random_model(), blended_pairs(5)
    attributed = DeepLift().attribute(model, blended, MARGIN, EmptyBaseline()).forward
    found = removal(model, blended, MARGIN, attributed.scores_pt)
    torch.testing.assert_close(found.f_removed_pk[:, 0], attributed.f_input_p)
    torch.testing.assert_close(found.f_removed_pk[:, -1], attributed.f_baseline_p)


@settings(max_examples=20)
@given(st.floats(1e-6, 1e6), st.integers(0, 20))
def test_a_positive_scale_and_scores_elsewhere_change_nothing(scale: float, seed: int) -> None:
    blended = blended_pairs(3, seed)
    draw = torch.Generator().manual_seed(seed)
    scores_pt = torch.randn(blended.gene_ids_pt.shape, generator=draw, dtype=torch.float64)
    model = linear(3, -1, 2, 5, -4, 1, 0.5, 2, -3, 1, 1, 1)
    changed_pt = torch.where(blended.gene_ids_pt >= 0, scale * scores_pt, torch.nan)
    one, other = (removal(model, blended, MARGIN, s) for s in (scores_pt, changed_pt))
    for name, tensor in vars(one).items():
        assert torch.equal(tensor, getattr(other, name)), name


def test_gene_order_padding_and_batches_change_nothing() -> None:
    model, blended = random_model(), blended_pairs(6, seed=2)
    draw = torch.Generator().manual_seed(0)
    scores_pt = torch.randn(blended.gene_ids_pt.shape, generator=draw).round(decimals=0)
    whole = removal(model, blended, MARGIN, scores_pt)
    order_pt = shuffled_positions(blended)
    moved_pt = scores_pt.gather(1, order_pt.clamp(min=0))
    again = removal(model, at_positions(blended, order_pt), MARGIN, moved_pt, batch_tokens=1)
    for name, tensor in vars(whole).items():
        torch.testing.assert_close(getattr(again, name), tensor, rtol=1e-10, atol=1e-10)


def test_the_model_is_given_back_as_it_was() -> None:
    model, blended = random_model(), blended_pairs(2)
    before = everything(model)
    removal(model, blended, MARGIN, torch.rand(blended.gene_ids_pt.shape))
    assert same(before, everything(model))


def test_scores_that_have_no_order_are_refused() -> None:
    blended = blended_pairs(2)
    with pytest.raises(AttributionError, match="shape"):
        removal(random_model(), blended, MARGIN, torch.zeros(2, 3))
    with pytest.raises(AttributionError, match="no order"):
        removal(random_model(), blended, MARGIN, torch.full(blended.gene_ids_pt.shape, torch.nan))
