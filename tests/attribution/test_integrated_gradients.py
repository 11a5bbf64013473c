"""Integrated gradients with presence: exact, complete, and equal to the integral done plainly."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gradgene.attribution import GradXDelta, IntegratedGradients, build_method, paths
from gradgene.attribution.members import Members, embed_members, read_at
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, PhenotypeGeneTransformer
from gradgene.modes import explaining, replaced_forward
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import mask_category
from tests.attribution.polynomials import POWERS, f_of_bins, gain_of_bins, polynomial_pairs
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    cells_of,
    one_way,
    random_cells,
    random_model,
    target,
)

EXACT = IntegratedGradients(n_steps=200)
PARTS = ("scores_pt", "embedding_pt", "presence_pt")


def gentle_model(seed: int, dtype: torch.dtype = torch.float64) -> PhenotypeGeneTransformer:
    """Weights of standard deviation 0.25: far from linear, but without near-jumps of attention."""
    model = random_model(seed, dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(0.5)
    return model


def pair_of(genes: tuple[list[int], list[int]], bins: tuple[list[int], list[int]]) -> BlendedBatch:
    cells = cells_of(genes, bins, torch.tensor([[7, 4], [8, 5]]))
    return blend(cells, torch.tensor([0]), torch.tensor([1]))


class TestPolynomials:
    @pytest.mark.parametrize("power", POWERS)
    def test_the_fewest_nodes_that_are_exact(self, power: int) -> None:
        """n nodes integrate a gradient of degree 2 n - 1: a power of up to 2 n is exact."""
        model, blended, bins = polynomial_pairs(power)
        found = one_way(IntegratedGradients(n_steps=math.ceil(power / 2)), model, blended)
        torch.testing.assert_close(found.scores_pt, gain_of_bins(bins, power), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.f_input_p, f_of_bins(bins[0], power))
        assert found.relative_delta_p.max() <= 1e-12

    def test_one_node_less_is_not(self) -> None:
        model, blended, _ = polynomial_pairs(5)
        assert one_way(IntegratedGradients(n_steps=2), model, blended).relative_delta_p.max() > 1e-3


class TestCompleteness:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_of_a_smooth_model_at_50_steps(self, kind: str, seed: int) -> None:
        method, blended = IntegratedGradients(n_steps=50), blended_pairs(40, seed)
        found = one_way(method, gentle_model(seed), blended, target(kind))
        assert found.relative_delta_p.max() <= 1e-3
        # Otherwise any method would do.
        local = one_way(GradXDelta(), gentle_model(seed), blended, target(kind))
        assert local.relative_delta_p.median() > 0.03

    def test_more_steps_leave_less_down_to_rounding(self) -> None:
        """On strongly non-linear models, where 20 steps are not enough for the worst pair."""
        worst = []
        for n_steps in (5, 20, 50, 100, 200):
            found = one_way(
                IntegratedGradients(n_steps=n_steps), random_model(3), blended_pairs(40, 3)
            )
            worst.append(float(found.relative_delta_p.max()))
        rounding = 1e-8
        for earlier, later in pairwise(worst):
            assert later < max(earlier / 2, rounding)
        assert worst[1] > 1e-3
        assert worst[-1] < rounding

    @pytest.mark.parametrize(
        "blended",
        [
            lambda: blended_pairs(10, 3).without_baseline_genes(),
            lambda: blended_pairs(10, 3).with_blank_genes(),
            lambda: pair_of(([0, 1, 2], [3, 4]), ([1, 2, 3], [2, 2])),
            lambda: pair_of(([3], [1, 3, 5]), ([1], [4, 2, 1])),
            lambda: pair_of(([3], [4]), ([1], [4])),
        ],
        ids=["empty baseline", "zero baseline", "no shared gene", "one and many", "one each"],
    )
    @pytest.mark.parametrize("make", [random_model, gentle_model])
    def test_with_the_genes_of_each_member(
        self,
        blended: Callable[[], BlendedBatch],
        make: Callable[[int], PhenotypeGeneTransformer],
    ) -> None:
        found = one_way(EXACT, make(1), blended())
        assert ((found.f_input_p - found.f_baseline_p).abs() > 1e-6).any()
        assert found.relative_delta_p.max() <= 1e-8

    def test_in_float32(self) -> None:
        found = one_way(
            IntegratedGradients(n_steps=50), gentle_model(1, torch.float32), blended_pairs(40, 2)
        )
        something_p = (found.f_input_p - found.f_baseline_p).abs() > 0.01
        assert something_p.any()
        assert found.relative_delta_p[something_p].max() <= 1e-3


class TestSymmetry:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", ["integrated_gradients", "gradient_shap"])
    def test_the_swapped_pair_gets_the_negated_scores(self, name: str, kind: str) -> None:
        method, model, blended = build_method(name), random_model(3), blended_pairs(40, 4)
        forward = one_way(method, model, blended, target(kind))
        backward = one_way(method, model, blended.swap(), target(kind))
        for part in PARTS:
            one, other = getattr(forward, part), getattr(backward, part)
            torch.testing.assert_close(other, -one, rtol=0, atol=1e-12)

    def test_a_cell_against_itself_scores_exactly_zero(self) -> None:
        cells, rows = random_cells(6), torch.arange(6)
        found = one_way(IntegratedGradients(), random_model(3), blend(cells, rows, rows))
        assert (found.scores_pt == 0).all()
        assert (found.relative_delta_p == 0).all()


class TestPresence:
    def test_belongs_to_genes_of_one_member(self) -> None:
        blended = blended_pairs(20, 2)
        in_i, in_b = blended.input.attention_mask_nt, blended.baseline.attention_mask_nt
        presence_pt = one_way(IntegratedGradients(), random_model(1), blended).presence_pt
        assert presence_pt is not None
        assert ((presence_pt != 0) == (in_i ^ in_b)).all()
        assert (in_b & ~in_i).any()

    def test_without_it_something_stays_unexplained(self) -> None:
        blended = blended_pairs(20, 2)
        found = one_way(EXACT, random_model(1), blended)
        risen_p = found.f_input_p - found.f_baseline_p
        assert (found.embedding_pt.sum(dim=1) / risen_p - 1).abs().median() > 0.1


@pytest.mark.parametrize("layer", ["total", "identity"])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_scores_are_those_of_the_integral_written_plainly(layer: Any, n_layers: int) -> None:
    """Weights p_j exp(z_j) / Σ p exp(z), differentiated with respect to p itself, pair by pair."""
    model, blended = random_model(4, n_layers=n_layers), blended_pairs(6, 5)
    found = one_way(IntegratedGradients(n_steps=7, layer=layer), model, blended)
    masked, _ = mask_category(blended.cells, model.vocabulary, MARGIN.category)
    with explaining(model):
        members = embed_members(model, blended.with_cells(masked), layer)
        for p in range(len(members)):
            embedding_t, presence_t = plainly(model, members, p, layer, n_steps=7)
            torch.testing.assert_close(found.embedding_pt[p], embedding_t, rtol=1e-9, atol=1e-11)
            assert found.presence_pt is not None
            torch.testing.assert_close(found.presence_pt[p], presence_t, rtol=1e-9, atol=1e-11)


def plainly(
    model: PhenotypeGeneTransformer, members: Members, pair: int, layer: Any, n_steps: int
) -> tuple[Tensor, Tensor]:
    bound = MARGIN.bind(model.vocabulary)
    x_i, x_b = (x[pair : pair + 1] for x in (members.x_input_ptd, members.x_baseline_ptd))
    m_i, m_b = (
        m[pair : pair + 1].double() for m in (members.mask_input_pt, members.mask_baseline_pt)
    )
    embedding_t, presence_t = torch.zeros_like(m_i[0]), torch.zeros_like(m_i[0])
    for at, weight in zip(*np.polynomial.legendre.leggauss(n_steps), strict=True):
        share = (1 + at) / 2
        x = (x_b + share * (x_i - x_b)).requires_grad_(True)
        presence = (m_b + share * (m_i - m_b)).requires_grad_(True)

        def weighted(
            q: Tensor, k: Tensor, v: Tensor, _: Tensor, presence: Tensor = presence
        ) -> Tensor:
            z = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            y = presence[:, None, None, :] * (z - z.amax(dim=-1, keepdim=True)).exp()
            return (y / y.sum(dim=-1, keepdim=True)) @ v

        with ExitStack() as stack:
            for module in model.modules():
                if isinstance(module, AttentionCore):
                    stack.enter_context(replaced_forward(module, weighted))
            f_1 = read_at(model, layer, x, (m_i + m_b) > 0, bound)
        g_x, g_p = torch.autograd.grad(f_1.sum(), (x, presence))
        embedding_t += weight / 2 * (g_x * members.difference_ptd[pair]).sum(dim=-1)[0]
        presence_t += weight / 2 * (g_p * (m_i - m_b))[0]
    return embedding_t, presence_t


@pytest.mark.parametrize(("positions", "wider"), [(1, 1), (30, 8), (10**6, 8)])
def test_how_the_work_is_cut_up_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, positions: int, wider: int
) -> None:
    model, blended = random_model(1), blended_pairs(6, 2)
    expected = one_way(IntegratedGradients(), model, blended)
    monkeypatch.setitem(paths.POSITIONS, "cpu", positions)
    monkeypatch.setitem(paths.WIDER, "cpu", wider)
    found = one_way(IntegratedGradients(), random_model(1), blended_pairs(6, 2))
    for part in PARTS:
        torch.testing.assert_close(
            getattr(found, part), getattr(expected, part), rtol=0, atol=1e-12
        )


def test_bfloat16_weights_do_not_round_a_key_away() -> None:
    """Close to the ends of the path a share of it is 0 or 1 in bfloat16."""
    found = one_way(EXACT, random_model(1, torch.bfloat16), blended_pairs(6, 2))
    exact = one_way(EXACT, random_model(1, torch.bfloat16).double(), blended_pairs(6, 2))
    assert found.presence_pt is not None
    error = (found.scores_pt - exact.scores_pt).abs().max()
    assert error <= 0.1 * max(exact.f_input_p.abs().max(), exact.f_baseline_p.abs().max())


def test_no_step_is_refused() -> None:
    with pytest.raises(AttributionError, match=r"n_steps.*positive number"):
        IntegratedGradients(n_steps=0)


@pytest.mark.gpu
def test_a_gpu_gives_the_scores_of_the_processor() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    for dtype, atol in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        blended, method = blended_pairs(6, 2), IntegratedGradients()
        expected = one_way(method, random_model(1, dtype), blended)
        found = one_way(method, random_model(1, dtype).cuda(), blended.to("cuda")).to("cpu")
        scale = float(expected.scores_pt.abs().max())
        for part in PARTS:
            one, other = getattr(found, part), getattr(expected, part)
            torch.testing.assert_close(one, other, rtol=0, atol=atol * scale)
