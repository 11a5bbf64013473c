"""Swap-gap against gaps by hand, the best order there is, and everything it must not depend on."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from gradgene.attribution import DeepLift
from gradgene.errors import AttributionError
from gradgene.evaluation import SwapGap
from gradgene.evaluation.faithfulness.swap_gap import FRACTIONS
from gradgene.pairs import blend
from tests.attribution.toys import (
    MARGIN,
    at_positions,
    blended_pairs,
    cells_of,
    random_model,
)
from tests.evaluation.faithfulness.linear import LABELS, linear, pair, scored, swap_gap


def test_two_genes_by_hand() -> None:
    """g0 gives 9 and g1 gives 2 of f_I - f_B = 11; one of the two is swapped at 5 fractions.

    Two genes: 30 % … 70 % are one gene. Lowest first leaves f_I - 2 there, highest first f_I - 9.
    """
    blended = pair([0, 1], [4, 1], [0, 1], [1, 3])
    found = swap_gap(linear(3, -1), blended, MARGIN, scored(blended, {0: 9, 1: 2}))
    assert found.change_p.tolist() == [11]
    assert found.f_lowest_first_pk.tolist() == [[11] * 3 + [9] * 5 + [0] * 3]
    assert found.f_highest_first_pk.tolist() == [[11] * 3 + [2] * 5 + [0] * 3]
    assert found.gap_p.tolist() == pytest.approx([7 * 5 / 11])
    assert found.ratio == pytest.approx(7 * 5 / 11 / 11)


def test_the_wrong_order_is_as_bad_as_the_right_one_is_good() -> None:
    blended = pair([0, 1], [4, 1], [0, 1], [1, 3])
    found = swap_gap(linear(3, -1), blended, MARGIN, scored(blended, {0: 2, 1: 9}))
    assert found.ratio == pytest.approx(-7 * 5 / 121)


def test_genes_against_the_label_make_it_exceed_one() -> None:
    """g0 gives 12, g1 takes 11: f_I - f_B = 1, between 12 and -11 on the way."""
    blended = pair([0, 1], [4, 4], [0, 1], [0, 1])
    model = linear(3, -11 / 3)
    found = swap_gap(model, blended, MARGIN, scored(blended, {0: 12, 1: -11}))
    assert found.change_p.tolist() == pytest.approx([1])
    assert found.ratio == pytest.approx((12 + 11) * 5 / 11)


def test_the_same_pair_the_other_way_round_has_the_same_gap() -> None:
    """f falls there, and the scores are those of the swapped pair: negated."""
    blended = pair([0, 1], [4, 1], [0, 1], [1, 3])
    scores_pt = scored(blended, {0: -9, 1: -2})
    found = swap_gap(linear(3, -1), blended.swap(), MARGIN, scores_pt)
    assert found.gap_p.tolist() == pytest.approx([7 * 5 / 11])
    assert found.change_p.tolist() == [11]


def test_genes_of_one_member_come_and_go() -> None:
    """g0 only in the input (12 of 21), g1 only in the baseline (3), g2 in both (6)."""
    blended = pair([0, 2], [4, 4], [1, 2], [3, 1])
    model = linear(3, -1, 2)
    found = swap_gap(model, blended, MARGIN, scored(blended, {0: 12, 1: 3, 2: 6}))
    # Thirds to the nearest: 0 0 1 1 1 2 2 2 2 3 3 genes; f starts at 20 and ends at -1.
    lowest = [20] * 2 + [17] * 3 + [11] * 4 + [-1] * 2
    highest = [20] * 2 + [8] * 3 + [2] * 4 + [-1] * 2
    assert found.f_lowest_first_pk.tolist() == [lowest]
    assert found.f_highest_first_pk.tolist() == [highest]
    assert found.gap_p.tolist() == pytest.approx([(3 * 9 + 4 * 9) / 11])


def test_no_order_beats_exact_contributions() -> None:
    """All 120 orders of five genes on a linear model, some of whose genes speak against it."""
    weights = (3.0, -1.0, 0.5, -2.0, 1.0)
    blended = pair([0, 1, 2, 3, 4], [4, 3, 1, 3, 4], [0, 1, 2, 3, 4], [1, 1, 4, 2, 2])
    model = linear(*weights)
    exact = [9.0, -2.0, -1.5, -2.0, 2.0]
    best = swap_gap(model, blended, MARGIN, scored(blended, dict(enumerate(exact)))).ratio
    all_orders = [
        swap_gap(model, blended, MARGIN, scored(blended, dict(enumerate(map(float, order))))).ratio
        for order in permutations(range(5))
    ]
    assert best == pytest.approx(max(all_orders)) and best > 0
    assert min(all_orders) == pytest.approx(-best)
    assert np.mean(all_orders) == pytest.approx(0, abs=1e-12)


def test_it_ends_at_the_baseline_where_phenotypes_agree() -> None:
    """At 100 % every gene is the baseline's: absent ones are gone, new ones are there."""
    blended = blended_pairs(12, seed=3)
    ids_nt = blended.cells.input_ids_nt.clone()
    ids_nt[:, 1:3] = LABELS[0]
    blended = blended.with_cells(replace(blended.cells, input_ids_nt=ids_nt))
    found = swap_gap(random_model(), blended, MARGIN, torch.rand(blended.gene_ids_pt.shape))
    forward = DeepLift().attribute(random_model(), blended, MARGIN).forward
    for curves_pk in (found.f_lowest_first_pk, found.f_highest_first_pk):
        torch.testing.assert_close(curves_pk[:, 0], forward.f_input_p)
        torch.testing.assert_close(curves_pk[:, -1], forward.f_baseline_p)
    torch.testing.assert_close(found.change_p, (forward.f_input_p - forward.f_baseline_p).abs())


def test_phenotypes_stay_the_inputs() -> None:
    """Equal genes, other sex: nothing is swapped, though f differs between the members."""
    cells = cells_of([[0, 1], [0, 1]], [[2, 3], [2, 3]], torch.tensor([[7, 4], [8, 4]]))
    blended = blend(cells, torch.tensor([0]), torch.tensor([1]))
    scores_pt = torch.rand(blended.gene_ids_pt.shape)
    found = swap_gap(random_model(), blended, MARGIN, scores_pt)
    assert found.change_p > 1e-3 and found.gap_p.abs() < 1e-12
    assert float(found.f_lowest_first_pk.std()) < 1e-12


def test_random_scores_have_a_gap_near_zero_and_complete_ones_do_not() -> None:
    """Over 200 pairs, within three standard errors of 0, which the interval gives."""
    model, blended = random_model(1), blended_pairs(200, seed=4)
    draw = torch.Generator().manual_seed(5)
    noise_pt = torch.randn(blended.gene_ids_pt.shape, generator=draw)
    by_chance = swap_gap(model, blended, MARGIN, noise_pt)
    low, high = by_chance.interval()
    assert abs(by_chance.ratio) < 1.5 * (high - low) / 2 and high - low < 0.2
    scores_pt = DeepLift().attribute(model, blended, MARGIN).forward.scores_pt
    complete = swap_gap(model, blended, MARGIN, scores_pt)
    assert complete.interval()[0] > high and complete.interval()[0] > 0.3


def test_equal_scores_say_nothing() -> None:
    blended = blended_pairs(6)
    found = swap_gap(random_model(), blended, MARGIN, torch.ones(blended.gene_ids_pt.shape))
    assert (found.gap_p == 0).all() and (found.change_p > 0).all()


def test_gene_order_padding_and_batches_change_nothing() -> None:
    model, blended = random_model(), blended_pairs(7, seed=2)
    length = blended.gene_ids_pt.shape[1]
    draw = torch.Generator().manual_seed(0)
    scores_pt = torch.randn(7, length, generator=draw).round(decimals=0)  # with many ties
    whole = swap_gap(model, blended, MARGIN, scores_pt)
    header = blended.n_header
    places = header + torch.rand(7, length - header, generator=draw).argsort(dim=1)
    order_pt = torch.cat(
        [torch.arange(header).expand(7, -1), places, torch.full((7, 3), -1)], dim=1
    )
    moved_pt = scores_pt.gather(1, order_pt.clamp(min=0))
    again = swap_gap(model, at_positions(blended, order_pt), MARGIN, moved_pt, batch_tokens=1)
    for name, tensor in vars(whole).items():
        torch.testing.assert_close(getattr(again, name), tensor, rtol=1e-10, atol=1e-10)


def test_the_scale_of_scores_and_scores_elsewhere_change_nothing() -> None:
    model, blended = random_model(), blended_pairs(5)
    scores_pt = torch.randn(blended.gene_ids_pt.shape, generator=torch.Generator().manual_seed(1))
    changed_pt = torch.where(blended.gene_ids_pt >= 0, 1e6 * scores_pt, torch.nan)
    one, other = (swap_gap(model, blended, MARGIN, s) for s in (scores_pt, changed_pt))
    assert torch.equal(one.gap_p, other.gap_p)


def test_the_model_is_given_back_as_it_was() -> None:
    model, blended = random_model(), blended_pairs(3)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = swap_gap(model, blended, MARGIN, torch.rand(blended.gene_ids_pt.shape))
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert not inside.gap_p.requires_grad and inside.gap_p.dtype == torch.float64


@pytest.mark.parametrize("wrong", ["shape", "nan", "inf"])
def test_scores_that_have_no_order_are_refused(wrong: str) -> None:
    blended = blended_pairs(2)
    scores_pt = torch.zeros(blended.gene_ids_pt.shape)
    if wrong == "shape":
        scores_pt = scores_pt[:, 1:]
    else:
        scores_pt[0, blended.n_header] = float(wrong)
    with pytest.raises(AttributionError, match="shape" if wrong == "shape" else "no order"):
        swap_gap(random_model(), blended, MARGIN, scores_pt)


def made(gap: list[float], change: list[float]) -> SwapGap:
    curves_pk = torch.zeros(len(gap), len(FRACTIONS), dtype=torch.float64)
    return SwapGap(torch.tensor(gap).double(), torch.tensor(change).double(), curves_pk, curves_pk)


def test_the_interval_by_hand() -> None:
    """R = 9/6; residuals -0.5, -1, 1.5; se = √(3/2 · 3.5)/6; t of 2 degrees of freedom 4.3027."""
    found = made([1, 2, 6], [1, 2, 3])
    reach = 4.302652729749464 * np.sqrt(1.5 * 3.5) / 6
    assert found.ratio == 1.5
    assert found.interval() == pytest.approx((1.5 - reach, 1.5 + reach))


def test_pairs_of_one_donor_are_one_unit() -> None:
    split = made([0.5, 0.5, 2, 5, 1], [0.25, 0.75, 2, 1, 2])
    assert split.interval(np.array([4, 4, 9, 0, 0])) == pytest.approx(
        made([1, 2, 6], [1, 2, 3]).interval()
    )
    assert np.isnan(split.interval(torch.tensor([1, 1, 1, 2, 2]))).all()


def test_no_pair_is_dropped() -> None:
    """A pair whose f hardly differs counts by the little that it changes."""
    parts = [made([1], [1]), made([-5], [0]), made([0], [1])]
    assert SwapGap.joined(parts).ratio == -2
    assert len(SwapGap.joined(parts)) == 3


def test_without_any_change_there_is_no_ratio() -> None:
    found = made([0, 0, 0], [0, 0, 0])
    assert np.isnan(found.ratio) and np.isnan(found.interval()).all()


def test_curves_that_do_not_fit_are_refused() -> None:
    good = made([1], [1])
    with pytest.raises(AttributionError, match="curves"):
        replace(good, f_lowest_first_pk=torch.zeros(1, 3))
    with pytest.raises(AttributionError, match="changes"):
        replace(good, change_p=torch.zeros(2))
