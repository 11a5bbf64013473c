"""Expected gradients: mirrored seeded draws, exact on quadratics, in the mean the path integral."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradgene.attribution import GradientShap, IntegratedGradients
from gradgene.errors import AttributionError
from gradgene.pairs import blend
from tests.attribution.polynomials import gain_of_bins, polynomial_pairs
from tests.attribution.toys import blended_pairs, one_way, random_cells, random_model


def scores_of(n_samples: int, seed: int) -> Tensor:
    method = GradientShap(n_samples=n_samples, seed=seed)
    return one_way(method, random_model(1), blended_pairs(6, 2)).scores_pt


@pytest.mark.parametrize("power", [1, 2])
def test_mirrored_draws_are_exact_on_quadratics(power: int) -> None:
    model, blended, bins = polynomial_pairs(power)
    found = one_way(GradientShap(n_samples=2, seed=7), model, blended)
    torch.testing.assert_close(found.scores_pt, gain_of_bins(bins, power), rtol=1e-12, atol=0)


def test_a_cubic_is_not_complete() -> None:
    """Which is why the method does not promise it."""
    model, blended, _ = polynomial_pairs(3)
    assert one_way(GradientShap(), model, blended).relative_delta_p.max() > 1e-3
    assert not GradientShap().is_complete


def test_more_draws_come_closer_to_the_integral_and_to_completeness() -> None:
    """Root mean square over seeds, which falls with the root of the number of draws."""
    blended = blended_pairs(6, 2)
    exact_pt = one_way(IntegratedGradients(n_steps=200), random_model(1), blended).scores_pt
    errors, deltas = [], []
    for n_samples in (10, 90):
        of_seeds = torch.stack([scores_of(n_samples, seed) for seed in range(12)])
        errors.append(float((of_seeds - exact_pt).square().mean().sqrt()))
        deltas.append(float((of_seeds - exact_pt).sum(dim=2).square().mean().sqrt()))
    for few, many in (errors, deltas):
        assert 1.5 < few / many < 6  # 3, but 12 seeds do not say it exactly


def test_the_mean_over_seeds_is_the_integral() -> None:
    exact_pt = one_way(
        IntegratedGradients(n_steps=200), random_model(1), blended_pairs(6, 2)
    ).scores_pt
    of_seeds = torch.stack([scores_of(20, seed) for seed in range(30)])
    standard_error_pt = of_seeds.std(dim=0) / 30**0.5
    beyond_pt = (of_seeds.mean(dim=0) - exact_pt).abs() > 4 * standard_error_pt + 1e-9
    assert beyond_pt.float().mean() <= 0.02


def test_the_seed_decides() -> None:
    assert torch.equal(scores_of(4, 1), scores_of(4, 1))
    assert not torch.equal(scores_of(4, 1), scores_of(4, 2))


def test_a_pair_has_its_scores_wherever_it_runs() -> None:
    """Alone, in other company, in another order, later, and whatever else draws numbers."""
    method, model, cells = GradientShap(n_samples=4), random_model(1), random_cells(12, 2)
    whole_pt = one_way(method, model, blend(cells, torch.arange(6), torch.arange(6, 12))).scores_pt
    other_pt = scores_of(4, 1)
    for state, rows in enumerate(([0], [3], [5, 3, 0], [3, 3], [1, 0, 2, 4, 5, 3])):
        torch.manual_seed(state)
        torch.rand(state)
        row_p = torch.tensor(rows)
        found_pt = one_way(method, model, blend(cells, row_p, row_p + 6)).scores_pt
        n = found_pt.shape[1]
        torch.testing.assert_close(found_pt, whole_pt[row_p, :n], rtol=0, atol=1e-10)
        # Other draws are told apart easily.
        assert (whole_pt[row_p] - other_pt[row_p]).abs().amax(dim=1).min() > 1e-3


@pytest.mark.parametrize("n_samples", [0, 3, -2])
def test_draws_come_in_mirrored_pairs(n_samples: int) -> None:
    with pytest.raises(AttributionError, match="even"):
        GradientShap(n_samples=n_samples)
