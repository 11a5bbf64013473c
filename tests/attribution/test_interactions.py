"""Interactions of two genes: known ones by hand, and what both methods promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradgene.attribution import SwapOcclusion
from gradgene.attribution.integrated_hessians import integrated_hessians, log_nodes
from gradgene.attribution.interactions import GeneInteractions, mixed_differences, placed
from gradgene.attribution.members import embed_members, read_members
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import blend
from gradgene.tokens import mask_category
from tests.attribution.bins import FEMALE, Of, model_of, pair_of
from tests.attribution.toys import (
    MARGIN,
    N_GENES,
    VOCABULARY,
    at_positions,
    blended_pairs,
    everything,
    one_way,
    random_model,
    same,
    shuffled_positions,
)
from tests.small_memory import SmallMemory

ALL = range(N_GENES)


def measured(of: Of, *bins: Sequence[int], genes: Sequence[int] = (0, 1, 2)) -> GeneInteractions:
    return mixed_differences(model_of(of), pair_of(*bins), MARGIN, genes)


def exclusive(x_ng: Tensor) -> Tensor:
    """Genes 0 and 1: 1 if exactly one is above bin 2."""
    on = x_ng > 2
    return (on[:, 0] ^ on[:, 1]).double()


class TestMixedDifferences:
    def test_a_product(self) -> None:
        """(4 - 1) (2 - 3) whatever else there is; alone, the mean over the other's two states."""
        found = measured(lambda x: x[:, 0] * x[:, 1] + 5 * x[:, 2], (4, 2, 1), (1, 3, 3))
        assert found.interaction_pkk[0].tolist() == [[0, -3, 0], [-3, 0, 0], [0, 0, 0]]
        assert found.single_pk[0].tolist() == [3 * 2.5, -1 * 2.5, -10]
        assert found.direction_pk[0].tolist() == [1, -1, -1]
        assert found.upward_pkk[0, 0, 1] == 3
        assert found.upward_pk[0].tolist() == [7.5, 2.5, 10]

    def test_a_sum_has_none(self) -> None:
        found = measured(lambda x: (7 * x - x**2).sum(dim=1), (4, 2, 0), (1, 0, 3))
        assert not found.interaction_pkk.any()
        assert found.single_pk.all()

    @pytest.mark.parametrize(
        ("cells", "signed"),
        [(((4, 4), (1, 1)), -2), (((4, 0), (0, 4)), 2), (((4, 4), (0, 4)), 0)],
    )
    def test_an_exclusive_or(self, cells: tuple[Sequence[int], ...], signed: int) -> None:
        """It has one sign by expression, whichever member has which gene; and no marginal one."""
        found = measured(exclusive, *cells, genes=(0, 1))
        assert found.interaction_pkk[0, 0, 1] == signed
        assert found.upward_pkk[0, 0, 1] == -abs(signed)
        if signed:
            assert not found.single_pk.any()

    def test_three_genes_share_alike(self) -> None:
        """The Shapley index of a product of three in each pair: half of it."""
        found = measured(lambda x: x[:, :3].prod(dim=1), (1, 1, 1), (0, 0, 0))
        expected = 0.5 * (1 - torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(found.interaction_pkk[0], expected)

    @given(st.integers(0, 1000))
    @settings(max_examples=10, deadline=None)
    def test_is_the_shapley_index_up_to_three_genes(self, seed: int) -> None:
        """Against the average over all orders, worked out from every subset."""
        draw = np.random.default_rng(seed)
        terms = [s for size in (1, 2, 3) for s in combinations(range(4), size)]
        weight = dict(zip(terms, draw.normal(size=len(terms)), strict=True))

        def of(x_ng: Tensor) -> Tensor:
            return sum(w * x_ng[:, list(s)].prod(dim=1) for s, w in weight.items())  # type: ignore[return-value]

        found = measured(of, (1, 1, 1, 1), (0, 0, 0, 0), genes=range(4))
        for i, j in combinations(range(4), 2):
            index = sum(w / (len(s) - 1) for s, w in weight.items() if {i, j} <= {*s})
            assert float(found.interaction_pkk[0, i, j]) == pytest.approx(index)

    def test_genes_that_no_member_has_or_both_have_alike(self) -> None:
        found = measured(lambda x: x[:, :3].sum(dim=1) ** 2, (4, 2, 3), (1, 2, 3), genes=(1, 0, 7))
        assert found.direction_pk[0].tolist() == [0, 1, 0]
        assert not found.interaction_pkk.any()
        assert found.single_pk[0, 1] == (81 - 36)

    @pytest.mark.parametrize("padding", [-5, 1000])
    def test_an_absent_gene_is_lower_than_any_bin(self, padding: int) -> None:
        """Whatever id stands where a member has no token."""
        blended = pair_of((4, 0, 1), (0, 2, 1))
        for member in (blended.input, blended.baseline):
            member.input_ids_nt[~member.attention_mask_nt] = padding
        position_pk, direction_pk = placed(blended, (0, 1, 2, 7))
        assert direction_pk.tolist() == [[1, -1, 0, 0]]
        assert (position_pk >= 0).tolist() == [[True, True, False, False]]

    @given(st.integers(0, 1000))
    @settings(max_examples=5, deadline=None)
    def test_exchanging_the_members_changes_nothing(self, seed: int) -> None:
        blended, model = blended_pairs(2, seed), random_model(seed)
        one = mixed_differences(model, blended, MARGIN, ALL)
        other = mixed_differences(model, blended.swap(), MARGIN, ALL)
        torch.testing.assert_close(one.interaction_pkk, other.interaction_pkk, rtol=0, atol=1e-10)
        torch.testing.assert_close(one.single_pk, -other.single_pk, rtol=0, atol=1e-10)
        torch.testing.assert_close(one.upward_pkk, other.upward_pkk, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("batch_tokens", [1, 64])
    def test_batches_genes_order_and_padding_play_no_part(self, batch_tokens: int) -> None:
        blended, model = blended_pairs(6, seed=3), random_model(3)
        found = mixed_differences(model, blended, MARGIN, ALL)
        assert found.interaction_pkk.abs().max() > 0.01
        order = torch.randperm(N_GENES, generator=torch.Generator().manual_seed(0))
        moved = at_positions(blended, shuffled_positions(blended))
        other = mixed_differences(model, moved, MARGIN, order.tolist(), batch_tokens)
        torch.testing.assert_close(
            found.interaction_pkk[:, order][:, :, order], other.interaction_pkk, rtol=0, atol=1e-10
        )

    def test_readings_that_do_not_fit_in_memory_are_halved(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of both ways to measure interactions."""
        blended, model = blended_pairs(3, seed=3), random_model(3)
        measures: tuple[Any, ...] = (mixed_differences, partial(integrated_hessians, n_steps=5))
        whole = [measure(model, blended, MARGIN, ALL) for measure in measures]
        memory = SmallMemory(monkeypatch, 3 * blended.gene_ids_pt.shape[1])
        for measure, expected in zip(measures, whole, strict=True):
            memory.failed.clear()
            found = measure(model, blended, MARGIN, ALL)
            assert memory.failed
            torch.testing.assert_close(
                found.interaction_pkk, expected.interaction_pkk, rtol=0, atol=1e-10
            )

    def test_single_effects_are_swap_occlusions(self) -> None:
        """From the input's side and, exchanged, from the baseline's."""
        blended, model = blended_pairs(6, seed=5), random_model(5)
        found = mixed_differences(model, blended, MARGIN, ALL)
        method = SwapOcclusion()
        away = one_way(method, model, blended).scores_pt
        back = one_way(method, model, blended.swap()).scores_pt
        mean_pt = (away - back) / 2
        is_gene_pt = blended.gene_ids_pt >= 0
        scattered = torch.zeros(6, N_GENES, dtype=torch.float64).scatter_add_(
            1, blended.gene_ids_pt.clamp(min=0), mean_pt * is_gene_pt
        )
        torch.testing.assert_close(found.single_pk, scattered, rtol=0, atol=1e-10)

    def test_leaves_the_model_as_it_was(self) -> None:
        model = random_model(1)
        before = everything(model)
        mixed_differences(model, blended_pairs(2, seed=1), MARGIN, ALL)
        integrated_hessians(model, blended_pairs(2, seed=1), MARGIN, ALL, n_steps=2)
        assert same(before, everything(model))

    def test_says_where_it_is_not_finite(self) -> None:
        with pytest.raises(AttributionError, match="in 1 of 1 pairs"):
            measured(lambda x: x[:, 0].sub(2).log(), (4, 2, 3), (1, 2, 3))

    def test_shapes_must_agree(self) -> None:
        one = torch.zeros(2, 3)
        with pytest.raises(AttributionError, match="differ in shape"):
            GeneInteractions(one, torch.zeros(2, 2, 2), one)

    def test_joined(self) -> None:
        parts = [
            mixed_differences(random_model(1), blended_pairs(2, s), MARGIN, ALL) for s in (1, 2)
        ]
        both = GeneInteractions.joined(parts)
        assert len(both) == 4
        assert torch.equal(both.single_pk[2:], parts[1].single_pk)


class TestLogNodes:
    @pytest.mark.parametrize("n", [1, 2, 5, 20])
    def test_exact_for_polynomials(self, n: int) -> None:
        """∫ tᵏ (-log t) dt = 1 / (k + 1)²."""
        t, weight = (x.numpy() for x in log_nodes(n))
        for k in range(2 * n):
            assert (weight * t**k).sum() == pytest.approx((k + 1) ** -2, rel=1e-11)
        assert (t > 0).all()
        assert (t < 1).all()

    def test_one_node_less_is_not(self) -> None:
        t, weight = (x.numpy() for x in log_nodes(2))
        assert abs((weight * t**4).sum() - 1 / 25) > 1e-3


def hessians(of: Of, *bins: Sequence[int], n_steps: int = 4) -> GeneInteractions:
    return integrated_hessians(model_of(of), pair_of(*bins), MARGIN, (0, 1, 2), n_steps)


def smooth_model(seed: int) -> PhenotypeGeneTransformer:
    """Weights that do not make attention jump along the path."""
    model = random_model(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(0.5)
    return model


class TestIntegratedHessians:
    def test_a_product_from_nothing(self) -> None:
        """x₀ x₁ is shared in four: a quarter to each gene itself, half to the two together."""
        found = hessians(lambda x: x[:, 0] * x[:, 1], (4, 2, 1), (0, 0, 1))
        expected = torch.tensor([[0, 4, 0], [4, 0, 0], [0, 0, 0]], dtype=torch.float64)
        torch.testing.assert_close(found.interaction_pkk[0], expected)
        torch.testing.assert_close(found.single_pk[0], torch.tensor([2.0, 2, 0]).double())

    def test_a_product_between_two_cells(self) -> None:
        """2 · 3 · (-1) ∫ t (-log t) dt = -6 / 4; the rest of 8 - 3 is the genes' own."""
        found = hessians(lambda x: x[:, 0] * x[:, 1], (4, 2, 1), (1, 3, 1))
        assert float(found.interaction_pkk[0, 0, 1]) == pytest.approx(-1.5)
        assert float(found.single_pk.sum()) == pytest.approx(5 + 1.5)

    def test_a_linear_model_has_none(self) -> None:
        found = hessians(lambda x: 3 * x[:, 0] - x[:, 1], (4, 2, 1), (1, 3, 1))
        assert not found.interaction_pkk.any()
        torch.testing.assert_close(found.single_pk[0], torch.tensor([9.0, 1, 0]).double())

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_complete_with_presence(self, seed: int) -> None:
        """Over all genes of pairs that agree in all else, whatever genes the members have."""
        cells = blended_pairs(4, seed).cells
        cells.input_ids_nt[:, 1] = FEMALE
        blended, model = blend(cells, torch.arange(4), torch.arange(4, 8)), smooth_model(seed)
        found = integrated_hessians(model, blended, MARGIN, ALL, n_steps=60)
        total_p = found.single_pk.sum(dim=1) + found.interaction_pkk.sum(dim=(1, 2)) / 2
        masked, _ = mask_category(blended.cells, VOCABULARY, "disease")
        members, bound = embed_members(model, blended.with_cells(masked)), MARGIN.bind(VOCABULARY)
        with explaining(model):
            f_input_p, f_baseline_p = read_members(model, "total", members, bound)
        gain_p = f_input_p - f_baseline_p
        torch.testing.assert_close(total_p, gain_p, rtol=1e-4, atol=1e-4)
        assert found.interaction_pkk.abs().max() > 0.01 * float(gain_p.abs().max())

    def test_batches_and_order_of_genes_play_no_part(self) -> None:
        blended, model = blended_pairs(4, seed=2), smooth_model(2)
        found = integrated_hessians(model, blended, MARGIN, ALL, n_steps=5)
        order = list(reversed(ALL))
        other = integrated_hessians(model, blended, MARGIN, order, n_steps=5, batch_tokens=64)
        torch.testing.assert_close(
            found.interaction_pkk[:, order][:, :, order], other.interaction_pkk, rtol=0, atol=1e-10
        )

    def test_agrees_with_differences_on_small_changes(self) -> None:
        """Half of a mixed difference, to second order; the same pair of genes comes first."""
        curve = torch.tensor([[0.0, 3, 1], [3, 0, -1], [1, -1, 0]]).double() / 100

        def of(x_ng: Tensor) -> Tensor:
            x = x_ng[:, :3]
            return (x @ curve * x).sum(dim=1).tanh()

        cells = (2, 3, 2), (1, 2, 1)
        exact, smooth = measured(of, *cells).interaction_pkk, hessians(of, *cells).interaction_pkk
        assert exact.abs().argmax() == smooth.abs().argmax()
        torch.testing.assert_close(2 * smooth, exact, rtol=0.2, atol=0.01)

    def test_refuses_kinks(self) -> None:
        with pytest.raises(AttributionError, match="finite_differences"):
            integrated_hessians(
                random_model(1, activation="relu"), blended_pairs(2, seed=1), MARGIN, ALL
            )


@pytest.mark.gpu
@pytest.mark.parametrize("measure", [mixed_differences, integrated_hessians])
def test_a_gpu_gives_the_same(measure: Callable[..., GeneInteractions]) -> None:
    blended, model = blended_pairs(4, seed=2), smooth_model(2)
    here = measure(model, blended, MARGIN, ALL)
    there = measure(model.to("cuda"), blended.to("cuda"), MARGIN, ALL)
    for one, other in zip(vars(here).values(), vars(there).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
