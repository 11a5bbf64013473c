"""Infidelity: 0 of exact scores on a sum, known multiples of it otherwise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradgene.attribution import DeepLift
from gradgene.errors import AttributionError
from gradgene.evaluation import Infidelity, infidelity
from tests.attribution.toys import MARGIN, blended_pairs, everything, random_model, same
from tests.evaluation.faithfulness.linear import contributions, linear, pair, random_swaps, scored
from tests.small_memory import SmallMemory

MODEL = linear(3, -1, 2, 5, -4, 1, 0.5, 2, -3, 1, 1, 1)


def test_exact_contributions_to_a_sum_have_none() -> None:
    blended = blended_pairs(6)
    swaps = random_swaps(MODEL, blended, MARGIN)
    found = infidelity(swaps, contributions(MODEL, blended))
    assert found.error_p.max() < 1e-20 and found.scaled_error_p.max() < 1e-20
    assert found.change_p.max() > 1


@settings(max_examples=20)
@given(st.floats(0, 10), st.integers(0, 20))
def test_a_multiple_of_them_by_hand(factor: float, seed: int) -> None:
    """(c y - y)² = (c - 1)² y², and nothing is left at the best scale."""
    blended = blended_pairs(3, seed)
    swaps = random_swaps(MODEL, blended, MARGIN, n_sets=9, seed=seed)
    found = infidelity(swaps, factor * contributions(MODEL, blended))
    torch.testing.assert_close(found.error_p, (factor - 1) ** 2 * found.change_p)
    expected_p = torch.zeros(3).double() if factor > 1e-6 else found.scaled_error_p
    torch.testing.assert_close(found.scaled_error_p, expected_p, atol=1e-9, rtol=0)


def test_scores_that_say_the_opposite_are_as_bad_as_none() -> None:
    blended = blended_pairs(4)
    swaps = random_swaps(MODEL, blended, MARGIN)
    opposite = infidelity(swaps, -contributions(MODEL, blended))
    nothing = infidelity(swaps, torch.zeros(blended.gene_ids_pt.shape))
    for found in (opposite, nothing):
        assert torch.equal(found.scaled_error_p, found.change_p)
    torch.testing.assert_close(opposite.error_p, 4 * opposite.change_p)
    assert torch.equal(nothing.error_p, nothing.change_p)


def test_two_genes_by_hand() -> None:
    """A set of two genes' 10 … 90 % holds one gene, or for 80 and 90 % both: g0 gives 9, g1 2."""
    blended = pair([0, 1], [4, 1], [0, 1], [1, 3])
    swaps = random_swaps(linear(3, -1), blended, MARGIN, n_sets=9)
    assert sorted(set(swaps.fall_kp.flatten().tolist())) == [2, 9, 11]
    assert swaps.swapped_kpt.sum(dim=2).flatten().tolist() == [1] * 7 + [2] * 2
    found = infidelity(swaps, scored(blended, {0: 9, 1: 0}))
    n_without = int((swaps.fall_kp == 9).sum())
    assert found.error_p.tolist() == pytest.approx([(9 - n_without) * 4 / 9])


def test_random_scores_explain_little_and_a_complete_method_much() -> None:
    model, blended = random_model(1), blended_pairs(60, seed=4)
    swaps = random_swaps(model, blended, MARGIN)
    noise_pt = torch.randn(blended.gene_ids_pt.shape, generator=torch.Generator().manual_seed(5))
    complete_pt = DeepLift().attribute(model, blended, MARGIN).forward.scores_pt
    shares = []
    for scores_pt in (noise_pt, complete_pt):
        found = infidelity(swaps, scores_pt)
        assert (found.scaled_error_p <= found.change_p + 1e-12).all()
        shares.append(float(found.scaled_error_p.sum() / found.change_p.sum()))
    assert shares[0] > 0.6 > 0.3 > shares[1]


def test_draws_scales_batches_and_scores_elsewhere() -> None:
    model, blended = random_model(), blended_pairs(5)
    before = everything(model)
    swaps = random_swaps(model, blended, MARGIN, seed=3)
    assert same(before, everything(model))
    again = random_swaps(model, blended, MARGIN, seed=3, batch_tokens=1)
    assert torch.equal(swaps.swapped_kpt, again.swapped_kpt)
    torch.testing.assert_close(swaps.fall_kp, again.fall_kp, rtol=1e-10, atol=1e-10)
    other = random_swaps(model, blended, MARGIN, seed=4)
    assert not torch.equal(swaps.swapped_kpt, other.swapped_kpt)
    assert not (swaps.swapped_kpt & (blended.gene_ids_pt < 0)).any()
    scores_pt = torch.rand(blended.gene_ids_pt.shape).double()
    changed_pt = torch.where(blended.gene_ids_pt >= 0, 1e3 * scores_pt, torch.nan)
    one, scaled = (infidelity(swaps, s).scaled_error_p for s in (scores_pt, changed_pt))
    torch.testing.assert_close(one, scaled)
    joined = Infidelity.joined([infidelity(swaps, scores_pt)] * 2)
    assert len(joined) == 10


def test_scores_without_a_sum_are_refused() -> None:
    blended = blended_pairs(2)
    swaps = random_swaps(MODEL, blended, MARGIN, n_sets=1)
    with pytest.raises(AttributionError, match="shape"):
        infidelity(swaps, torch.zeros(2, 2))


def test_mixtures_that_do_not_fit_in_memory_are_read_in_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, blended = random_model(), blended_pairs(5)
    swaps = random_swaps(model, blended, MARGIN, seed=3)
    memory = SmallMemory(monkeypatch, 3 * blended.gene_ids_pt.shape[1])
    again = random_swaps(model, blended, MARGIN, seed=3)
    assert memory.failed and memory.done
    torch.testing.assert_close(swaps.fall_kp, again.fall_kp, rtol=1e-10, atol=1e-10)
