"""The limits of AOPC: exact on a sum, and inside the true ones of a bent model."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from gradgene.evaluation import AopcLimits, normalised_aopc
from tests.attribution.toys import MARGIN, blended_pairs, everything, random_model, same
from tests.evaluation.faithfulness.linear import (
    attainable_aopc,
    contributions,
    linear,
    pair,
    removal,
    scored,
)

WEIGHTS = (3.0, -1.0, 0.5, -2.0)
BINS = [4, 3, 1, 3]


def test_on_a_sum_the_search_is_exact() -> None:
    blended = pair([0, 1, 2, 3], BINS, [0], [1])
    model = linear(*WEIGHTS)
    found = attainable_aopc(model, blended, MARGIN)
    alone_pt = contributions(model, blended.without_baseline_genes())
    best, worst = (removal(model, blended, MARGIN, sign * alone_pt).aopc_p for sign in (1, -1))
    torch.testing.assert_close(found.highest_p, best)
    torch.testing.assert_close(found.lowest_p, worst)
    every = [
        float(removal(model, blended, MARGIN, scored(blended, dict(enumerate(order)))).aopc_p)
        for order in permutations(map(float, range(4)))
    ]
    assert (min(every), max(every)) == pytest.approx((float(worst), float(best)))


@pytest.mark.parametrize("seed", range(3))
def test_on_a_bent_model_it_finds_most_of_the_true_range(seed: int) -> None:
    """Against all 24 orders of four genes."""
    model, blended = random_model(seed), pair([0, 3, 5, 8], [1, 2, 3, 4], [0], [1])
    orders = [dict(zip((0, 3, 5, 8), o, strict=True)) for o in permutations((1.0, 2.0, 3.0, 4.0))]
    every = [float(removal(model, blended, MARGIN, scored(blended, o)).aopc_p) for o in orders]
    found = attainable_aopc(model, blended, MARGIN)
    low, high = float(found.lowest_p), float(found.highest_p)
    assert min(every) - 1e-12 <= low <= high <= max(every) + 1e-12
    assert high - low >= 0.8 * (max(every) - min(every))


def test_pairs_are_searched_one_by_one() -> None:
    """Together as alone, whatever runs at once, and the model is given back."""
    model, blended = random_model(), blended_pairs(3)
    before = everything(model)
    whole = attainable_aopc(model, blended, MARGIN)
    assert same(before, everything(model)) and len(whole) == 3
    again = attainable_aopc(model, blended, MARGIN, batch_tokens=1)
    torch.testing.assert_close(whole.lowest_p, again.lowest_p)
    torch.testing.assert_close(whole.highest_p, again.highest_p)


def test_the_best_order_is_one_and_the_worst_zero() -> None:
    limits = AopcLimits(torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 1.0]))
    aopc = {"a": torch.tensor([3.0, 0.25]), "b": torch.tensor([-1.0, 0.5])}
    found = normalised_aopc(aopc, limits)
    assert found["a"].tolist() == [1, 0.25] and found["b"].tolist() == [0, 0.5]


def test_an_order_beyond_the_limits_moves_them() -> None:
    limits = AopcLimits(torch.tensor([0.0]), torch.tensor([1.0]))
    found = normalised_aopc({"a": torch.tensor([2.0]), "b": torch.tensor([1.0])}, limits)
    assert found["a"].tolist() == [1] and found["b"].tolist() == [0.5]


def test_where_no_order_matters_there_is_no_value() -> None:
    limits = AopcLimits(torch.tensor([0.5]), torch.tensor([0.5]))
    assert normalised_aopc({"a": torch.tensor([0.5])}, limits)["a"].isnan().all()
