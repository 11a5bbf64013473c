"""Each rule alone: Σ m_in Δin = Σ m_out Δout, symmetry, and values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gradgene.attribution import rules
from gradgene.attribution.rules import (
    AttentionStep,
    by_rows,
    gelu_multiplier,
    layer_norm_multiplier,
    log_mean,
    relu_multiplier,
    rms_norm_multiplier,
    secant,
    silu_multiplier,
    unit_norm_multiplier,
)

TIGHT = 1e-10
seeds = st.integers(0, 2**31 - 1)


def draws(seed: int, *shape: int, scale: float = 1.0) -> Any:
    """Two random float64 tensors of one shape, sometimes nearly or exactly equal."""
    g = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    gap = scale * torch.randn(shape, generator=g, dtype=torch.float64)
    # A quarter equal, a quarter within the threshold of the secant, half far apart.
    pick = torch.rand(shape, generator=g)
    gap = torch.where(pick < 0.25, 0, torch.where(pick < 0.5, 1e-7, 1)) * gap
    return x, x + gap


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


def close(a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=TIGHT * max(1.0, scale))


class TestSecant:
    @given(seeds, st.sampled_from([0.1, 1.0, 5.0]))
    def test_gelu_is_complete(self, seed: int, scale: float) -> None:
        x, b = draws(seed, 40, scale=scale)
        close(gelu_multiplier(x, b) * (x - b), F.gelu(x) - F.gelu(b))

    @given(seeds, st.sampled_from([0.1, 1.0, 5.0, 1e3]))
    def test_gelu_is_symmetric_to_the_last_bit(self, seed: int, scale: float) -> None:
        x, b = draws(seed, 40, scale=scale)
        assert torch.equal(gelu_multiplier(x, b), gelu_multiplier(b, x))

    @given(st.floats(1.5, 1e4), st.sampled_from([1.0, -1.0]))
    def test_is_symmetric_at_the_threshold(self, size: float, sign: float) -> None:
        """The gap is below 1e-5 of the larger member and above 1e-5 of the smaller one."""
        b = torch.tensor(sign * size, dtype=torch.float64)
        x = b * (1 + 1e-5 * (1 + 0.5e-5))
        phi, slope = torch.sin, torch.cos
        assert 1e-5 * b.abs() < (x - b).abs() < 1e-5 * x.abs()
        assert torch.equal(secant(x, b, phi, slope), secant(b, x, phi, slope))

    def test_far_values_by_hand(self) -> None:
        x, b = torch.tensor([3.0, -2.0, 5.0]), torch.tensor([1.0, 2.0, -1.0])
        relu = secant(x, b, torch.relu, lambda z: (z > 0).float())
        assert relu.tolist() == pytest.approx([1.0, 0.5, 5 / 6])
        square = secant(x, b, torch.square, lambda z: 2 * z)
        assert square.tolist() == [4.0, 0.0, 4.0]

    @pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-8, 9e-6])
    def test_near_values_take_the_slope_at_the_midpoint(self, gap: float) -> None:
        x = torch.linspace(-4, 4, 81, dtype=torch.float64)
        middle = (x + gap / 2).requires_grad_(True)
        (slope,) = torch.autograd.grad(F.gelu(middle).sum(), middle)
        torch.testing.assert_close(gelu_multiplier(x + gap, x), slope, rtol=0, atol=1e-14)

    def test_float32_stays_close_to_float64_through_the_threshold(self) -> None:
        b = torch.linspace(-4, 4, 161, dtype=torch.float64)
        for gap in (0.0, 1e-6, 1e-4, 9e-4, 1.1e-3, 5e-3, 0.1):
            exact = gelu_multiplier(b + gap, b)
            x32, b32 = (b + gap).float(), b.float()
            # The rounded gap differs from `gap`, but the slope barely changes over a rounding.
            assert (gelu_multiplier(x32, b32).double() - exact).abs().max() < 5e-4


class TestActivations:
    @given(seeds, st.sampled_from([0.1, 1.0, 5.0, 100.0]))
    def test_are_complete(self, seed: int, scale: float) -> None:
        x, b = draws(seed, 40, scale=scale)
        close(silu_multiplier(x, b) * (x - b), F.silu(x) - F.silu(b), scale)
        # Nothing cancels in ReLU's rule: only the last bit may be lost, however small the gap.
        gained = relu_multiplier(x, b) * (x - b)
        torch.testing.assert_close(gained, F.relu(x) - F.relu(b), rtol=1e-15, atol=1e-300)

    @given(seeds, st.sampled_from([0.1, 1.0, 5.0, 1e3]))
    def test_are_symmetric_to_the_last_bit(self, seed: int, scale: float) -> None:
        x, b = draws(seed, 40, scale=scale)
        for rule in (silu_multiplier, relu_multiplier):
            assert torch.equal(rule(x, b), rule(b, x))

    def test_silu_takes_the_slope_at_the_midpoint_of_near_values(self) -> None:
        x = torch.linspace(-4, 4, 81, dtype=torch.float64).requires_grad_(True)
        (slope,) = torch.autograd.grad(F.silu(x).sum(), x)
        near = x.detach() - 5e-9, x.detach() + 5e-9
        torch.testing.assert_close(silu_multiplier(*near), slope, rtol=0, atol=1e-14)

    def test_relu_by_hand(self) -> None:
        x, b = f64(3, -2, 5, -1, 2, 0), f64(1, 2, -1, -3, 2, 0)
        assert relu_multiplier(x, b).tolist() == pytest.approx([1, 0.5, 5 / 6, 0, 1, 0])

    def test_a_tiny_step_across_the_kink_of_relu_is_exact(self) -> None:
        """A slope at the midpoint would give 0 or 1 where 3/4 is true."""
        assert float(relu_multiplier(f64(3e-9), f64(-1e-9))) == pytest.approx(0.75, rel=1e-12)


class TestScaleNorms:
    """RMS norm, and x / |x|, which is the same up to a factor."""

    @given(seeds, st.sampled_from([1e-12, 1e-5]), st.sampled_from([0.1, 1.0, 20.0]))
    def test_are_complete(self, seed: int, eps: float, scale: float) -> None:
        x, b = draws(seed, 3, 7, scale=scale)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        out = [F.rms_norm(z, (7,), weight, eps) for z in (x, b)]
        gained = (rms_norm_multiplier(x, b, m, weight, eps) * (x - b)).sum(-1)
        close(gained, (m * (out[0] - out[1])).sum(-1))
        unit = [z / z.norm(dim=-1, keepdim=True) for z in (x, b)]
        gained = (unit_norm_multiplier(x, b, m) * (x - b)).sum(-1)
        close(gained, (m * (unit[0] - unit[1])).sum(-1))

    @given(seeds)
    def test_are_symmetric(self, seed: int) -> None:
        x, b = draws(seed, 3, 7)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        one = rms_norm_multiplier(x, b, m, weight, 1e-12)
        assert torch.equal(one, rms_norm_multiplier(b, x, m, weight, 1e-12))
        assert torch.equal(unit_norm_multiplier(x, b, m), unit_norm_multiplier(b, x, m))

    @given(seeds)
    def test_equal_the_derivative_where_the_members_agree(self, seed: int) -> None:
        x = draws(seed, 3, 7)[0].requires_grad_(True)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        (slope,) = torch.autograd.grad(F.rms_norm(x, (7,), weight, 1e-5), x, m)
        close(rms_norm_multiplier(x.detach(), x.detach(), m, weight, 1e-5), slope)
        (slope,) = torch.autograd.grad(x / x.norm(dim=-1, keepdim=True), x, m)
        close(unit_norm_multiplier(x.detach(), x.detach(), m), slope)

    def test_the_unit_circle_by_hand(self) -> None:
        """(3, 4) and (1, 0): lengths 5 and 1, inverse lengths 1/5 and 1, m = (0, 1).

        m_r = (4 + 0)/2 = 2; as a function of the squared length, 25 and 1, the inverse length has
        the multiplier -(1/5)^2 / (6/5) = -1/30. The product gives (0, 3/5), the squares add
        -2/30 (3 + 1, 4 + 0), together (-4/15, 1/3). The second output goes from 0 to 4/5.
        """
        x, b = f64(3, 4), f64(1, 0)
        got = unit_norm_multiplier(x, b, f64(0, 1))
        assert got.tolist() == pytest.approx([-4 / 15, 1 / 3], abs=1e-12)
        assert float((got * (x - b)).sum()) == pytest.approx(0.8)


class TestLayerNorm:
    @given(seeds, st.sampled_from([1e-12, 1e-5]), st.sampled_from([0.1, 1.0, 20.0]))
    def test_is_complete(self, seed: int, eps: float, scale: float) -> None:
        x, b = draws(seed, 3, 7, scale=scale)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        bias = draws(seed + 3, 7)[0]
        out = [F.layer_norm(z, (7,), weight, bias, eps) for z in (x, b)]
        gained = (layer_norm_multiplier(x, b, m, weight, eps) * (x - b)).sum(-1)
        close(gained, (m * (out[0] - out[1])).sum(-1))

    @given(seeds)
    def test_is_symmetric(self, seed: int) -> None:
        x, b = draws(seed, 3, 7)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        one = layer_norm_multiplier(x, b, m, weight, 1e-12)
        close(one, layer_norm_multiplier(b, x, m, weight, 1e-12))

    @given(seeds)
    def test_equals_the_derivative_where_the_members_agree(self, seed: int) -> None:
        x = draws(seed, 3, 7)[0].requires_grad_(True)
        m, weight = draws(seed + 1, 3, 7)[0], draws(seed + 2, 7)[0]
        (slope,) = torch.autograd.grad(F.layer_norm(x, (7,), weight, None, 1e-5), x, m)
        close(layer_norm_multiplier(x.detach(), x.detach(), m, weight, 1e-5), slope)

    def test_two_features_by_hand(self) -> None:
        """(4, 0) and (1, 3) with eps 0: centred (2, -2) and (-1, 1), rsqrt 1/2 and 1, m = (1, 0).

        m_r = (2 - 1)/2 = 1/2; m_variance = -1/2 (1/2)^2 / (3/2) = -1/12. The product gives
        (3/4, 0), the square adds -1/12 (1, -1)/2, together (17/24, 1/24), and centring takes the
        mean 3/8 off. The first output goes from -1 to 1.
        """
        x, b = f64(4, 0), f64(1, 3)
        got = layer_norm_multiplier(x, b, f64(1, 0), torch.ones(2).double(), 0.0)
        assert got.tolist() == pytest.approx([1 / 3, -1 / 3], abs=1e-12)
        assert float((got * (x - b)).sum()) == pytest.approx(2.0)


class TestLogMean:
    @given(st.floats(-60, 60), st.floats(-60, 60))
    def test_lies_between_the_two_numbers(self, log_x: float, log_b: float) -> None:
        got = float(log_mean(f64(log_x), f64(log_b)))
        low, high = sorted((math.exp(log_x), math.exp(log_b)))
        assert got > 0
        assert low * (1 - 1e-7) <= got <= high * (1 + 1e-7)

    @given(st.floats(-30, 30), st.floats(-30, 30))
    def test_is_complete_for_the_exponential(self, log_x: float, log_b: float) -> None:
        x, b = f64(log_x), f64(log_b)
        gained = float(log_mean(x, b) * (x - b))
        rise = math.exp(log_x) - math.exp(log_b)
        assert gained == pytest.approx(rise, rel=1e-9, abs=1e-10 * math.exp(max(log_x, log_b)))

    def test_by_hand(self) -> None:
        """The logarithmic mean of 4 and 1 is 3 / ln 4; of two equal numbers, that number."""
        got = log_mean(f64(4, 1, 5).log(), f64(1, 4, 5).log())
        assert got.tolist() == pytest.approx([3 / math.log(4), 3 / math.log(4), 5.0], rel=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_is_zero_where_one_is_absent(self, dtype: torch.dtype) -> None:
        gone, there = torch.tensor(-math.inf, dtype=dtype), torch.tensor(-1.0, dtype=dtype)
        for pair in ((gone, there), (there, gone), (gone, gone)):
            assert float(log_mean(*pair)) == 0.0


def attention_step(seed: int, *, scale: float = 1.0, d: int = 4) -> AttentionStep:
    """Two pairs, two heads, three queries, six keys: 0-1 shared, others at random in a member."""
    p, h, s, t = 2, 2, 3, 6
    q, k, v = (draws(seed + i, p, h, n, d, scale=scale) for i, n in ((0, s), (1, t), (2, t)))
    mask_x, mask_b = torch.rand((2, p, t), generator=torch.Generator().manual_seed(seed + 3)) < 0.6
    mask_x[:, :2], mask_b[:, :2] = True, True
    mask_x[0, 2:5], mask_b[0, 2:5] = torch.tensor([1, 0, 0]) > 0, torch.tensor([0, 1, 0]) > 0
    return AttentionStep(q[0], k[0], v[0], mask_x, q[1], k[1], v[1], mask_b)


def swapped(a: AttentionStep) -> AttentionStep:
    return AttentionStep(a.q_b, a.k_b, a.v_b, a.mask_b, a.q_x, a.k_x, a.v_x, a.mask_x)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The forward pass by torch, which knows nothing of our rules."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])


class TestRows:
    @given(seeds, st.sampled_from([1, 7, 12, 20, 10**9]))
    def test_some_rows_at_a_time_give_what_all_give(self, seed: int, size: int) -> None:
        x, b = draws(seed, 2, 3, 5)
        m, weight = draws(seed + 1, 2, 3, 5)[0], draws(seed + 2, 5)[0]

        def rule(x: Tensor, b: Tensor, m: Tensor) -> Tensor:
            return layer_norm_multiplier(x, b, m, weight, 1e-12)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules, "CHUNK", size)
            torch.testing.assert_close(by_rows(rule, x, b, m), rule(x, b, m), rtol=0, atol=1e-14)

    def test_what_is_given_is_left_as_it_is(self) -> None:
        x, b = draws(3, 4, 5)
        given_before = x.clone(), b.clone(), torch.ones(4, 5).double()
        m = given_before[2].clone()
        by_rows(lambda x, b, m: m * gelu_multiplier(x, b), x, b, m)
        by_rows(lambda x, b, m: layer_norm_multiplier(x, b, m, m[0], 1e-12), x, b, m)
        assert all(torch.equal(z, y) for z, y in zip((x, b, m), given_before, strict=True))

    def test_half_precision_is_handled_in_float32(self) -> None:
        """In 8 bits the two activations would differ by nothing or by their rounding."""
        b = torch.linspace(-3, 3, 60).bfloat16().reshape(4, 15)
        x, m = (b.float() + 0.02).bfloat16(), torch.ones(4, 15).bfloat16()
        found = by_rows(lambda x, b, m: m * gelu_multiplier(x, b), x, b, m)
        exact = gelu_multiplier(x.double(), b.double())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)


class TestAttention:
    @given(seeds, st.sampled_from([0.3, 1.0, 3.0]))
    def test_is_complete_with_keys_of_one_member_and_of_none(self, seed: int, scale: float) -> None:
        a = attention_step(seed, scale=scale)
        m_o = draws(seed + 9, 2, 2, 3, 4)[0]
        m_q, m_k, m_v, presence = a.multipliers(m_o)
        gained = presence.sum(-1) + sum(
            (m * (x - b)).flatten(1).sum(-1)
            for m, x, b in ((m_q, a.q_x, a.q_b), (m_k, a.k_x, a.k_b), (m_v, a.v_x, a.v_b))
        )
        risen = attended(a.q_x, a.k_x, a.v_x, a.mask_x) - attended(a.q_b, a.k_b, a.v_b, a.mask_b)
        close(gained, (m_o * risen).flatten(1).sum(-1), scale**3)

    @given(seeds)
    def test_is_symmetric(self, seed: int) -> None:
        a, m_o = attention_step(seed), draws(seed + 9, 2, 2, 3, 4)[0]
        one, other = a.multipliers(m_o), swapped(a).multipliers(m_o)
        for m, n in zip(one[:3], other[:3], strict=True):
            close(m, n)
        close(one[3], -other[3])

    @given(seeds)
    def test_presence_only_where_one_member_has_the_key(self, seed: int) -> None:
        a = attention_step(seed)
        presence = a.multipliers(draws(seed + 9, 2, 2, 3, 4)[0])[3]
        one_sided = a.mask_x ^ a.mask_b
        assert (presence[~one_sided] == 0).all()
        assert (presence[one_sided] != 0).all()

    @given(seeds)
    def test_a_key_absent_in_both_gets_nothing(self, seed: int) -> None:
        a = attention_step(seed)
        _, m_k, m_v, presence = a.multipliers(draws(seed + 9, 2, 2, 3, 4)[0])
        absent = ~(a.mask_x | a.mask_b)
        assert absent[0, 4]
        for m in (m_k, m_v):
            assert (m.transpose(1, 2)[absent] == 0).all()
        assert (presence[absent] == 0).all()

    @given(seeds)
    def test_a_constant_added_to_the_keys_changes_nothing(self, seed: int) -> None:
        """q·c is the same for every key of a query, whatever the two members' queries are."""
        a, m_o = attention_step(seed), draws(seed + 9, 2, 2, 3, 4)[0]
        c = draws(seed + 10, 4, scale=3)[0]
        for m, n in zip(
            a.multipliers(m_o),
            replace(a, k_x=a.k_x + c, k_b=a.k_b + c).multipliers(m_o),
            strict=True,
        ):
            close(m, n)

    @given(seeds)
    def test_equals_the_derivative_where_the_members_agree(self, seed: int) -> None:
        a, m_o = attention_step(seed), draws(seed + 9, 2, 2, 3, 4)[0]
        a = AttentionStep(a.q_x, a.k_x, a.v_x, a.mask_x, a.q_x, a.k_x, a.v_x, a.mask_x)
        leaves = [z.clone().requires_grad_(True) for z in (a.q_x, a.k_x, a.v_x)]
        q, k, v = leaves
        slopes = torch.autograd.grad(attended(q, k, v, a.mask_x), leaves, m_o)
        *multipliers, presence = a.multipliers(m_o)
        for m, slope in zip(multipliers, slopes, strict=True):
            close(m, slope)
        assert (presence == 0).all()

    @given(seeds, st.sampled_from([1, 48, 49, 60, 10**9]))
    def test_handling_queries_in_chunks_changes_nothing(self, seed: int, chunk: int) -> None:
        a, m_o = attention_step(seed), draws(seed + 9, 2, 2, 3, 4)[0]
        whole = a.multipliers(m_o)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules, "CHUNK", chunk)
            in_chunks = a.multipliers(m_o)
        for m, n in zip(in_chunks, whole, strict=True):
            torch.testing.assert_close(m, n, rtol=0, atol=1e-12)

    def test_logarithmic_means_of_shared_weights(self) -> None:
        """M and the multipliers of the scores written out with `log_mean`, one query and head."""
        gap = torch.tensor([0.0, 1e-9, 1e-6, 1e-4, -1e-2, 1.0, -7.0, 30.0, 700.0]).double()
        log_b = torch.linspace(-9, -1, 9).double()
        log_x = log_b + gap
        x, b = log_x.exp(), log_b.exp()
        ell = rules._log_mean_of((x - b) / 2, (log_x - log_b), (x + b) / 2)
        torch.testing.assert_close(ell, log_mean(log_x, log_b) / 2, rtol=1e-9, atol=0)
        again = rules._log_mean_of((b - x) / 2, (log_b - log_x), (b + x) / 2)
        assert torch.equal(ell, again)

    @given(seeds)
    def test_half_precision_is_handled_in_float32(self, seed: int) -> None:
        a, m_o = attention_step(seed), draws(seed + 9, 2, 2, 3, 4)[0].bfloat16()
        half = {n: z.bfloat16() if z.dtype.is_floating_point else z for n, z in vars(a).items()}
        full = {n: z.float() if z.dtype.is_floating_point else z for n, z in half.items()}
        found = AttentionStep(**half).multipliers(m_o)
        expected = AttentionStep(**full).multipliers(m_o.float())
        for m, n in zip(found[:3], expected[:3], strict=True):
            assert torch.equal(m, n.bfloat16())
        assert torch.equal(found[3], expected[3])

    def test_uniform_attention_by_hand(self) -> None:
        """Queries 0, so weights are 1/n. Input keys {0, 1}, baseline key {0}; v = 2, 6 against 2.

        Only key 0 is shared, so M = m_y0 = 2 and m_y1 = (6 + 0)/2 = 3: presence of key 1 is
        (3 - 2)(1/2) = 1/2, its value brings 6 (1/2 + 0)/2 = 3/2, and together 2 = (2 + 6)/2 - 2.
        """
        zero = torch.zeros(1, 1, 1, 1).double()
        keys = torch.tensor([[[[0.3], [-0.7]]]]).double()
        v_x, v_b = torch.tensor([[[[2.0], [6.0]]]]).double(), torch.tensor([[[[2.0], [0.0]]]])
        both, first = torch.tensor([[True, True]]), torch.tensor([[True, False]])
        a = AttentionStep(zero, keys, v_x, both, zero, keys, v_b.double(), first)
        m_q, m_k, m_v, presence = a.multipliers(torch.ones(1, 1, 1, 1).double())
        assert presence.tolist() == [[0.0, pytest.approx(0.5)]]
        assert m_v.flatten().tolist() == pytest.approx([0.75, 0.25])
        assert m_q.flatten().tolist() == [0.0]
        assert m_k.flatten().tolist() == [0.0, 0.0]

    @given(seeds)
    def test_presence_is_the_limit_of_a_bias(self, seed: int) -> None:
        """Absent keys as present ones with bias -1e9: score multiplier x Δbias → presence.

        The bias is one more dimension: queries hold 1 there and keys the bias.
        """
        a, m_o, d, big = attention_step(seed, scale=0.5), draws(seed + 9, 2, 2, 3, 4)[0], 4, 1e9
        stretch = math.sqrt((d + 1) / d)

        def with_bias(q: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            bias = torch.where(mask, 0.0, -big)[:, None, :, None].expand(*k.shape[:3], 1)
            ones = torch.full_like(q[..., :1], math.sqrt(d))
            return torch.cat([q, ones], -1) * stretch, torch.cat([k, bias.double()], -1)

        q_x, k_x = with_bias(a.q_x, a.k_x, a.mask_x)
        q_b, k_b = with_bias(a.q_b, a.k_b, a.mask_b)
        everywhere = torch.ones_like(a.mask_x)
        biased = AttentionStep(q_x, k_x, a.v_x, everywhere, q_b, k_b, a.v_b, everywhere)
        _, m_k, _, nothing = biased.multipliers(m_o)
        assert (nothing == 0).all()
        limit = (m_k * (k_x - k_b))[..., -1].sum(dim=1)
        one_sided = a.mask_x ^ a.mask_b
        presence = a.multipliers(m_o)[3]
        torch.testing.assert_close(limit[one_sided], presence[one_sided], rtol=0, atol=1e-7)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_shared_keys_far_below_the_others_give_no_nan(self, dtype: torch.dtype) -> None:
        """Each member attends to a key that the other lacks; every shared weight underflows."""
        far = 2000.0
        q = torch.ones(1, 1, 1, 1, dtype=dtype)
        k = torch.tensor([0.0, 1.0, far, far], dtype=dtype).reshape(1, 1, 4, 1)
        v = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=dtype).reshape(1, 1, 4, 1)
        mask_x = torch.tensor([[True, True, True, False]])
        mask_b = torch.tensor([[True, True, False, True]])
        step = AttentionStep(q, k, v, mask_x, q, k, v, mask_b)
        m_q, m_k, m_v, presence = step.multipliers(torch.ones(1, 1, 1, 1, dtype=dtype))
        for m in (m_q, m_k, m_v, presence):
            assert torch.isfinite(m).all()
        # The output falls from 3 to 5 as key 3 gives way to key 2; nothing else is different.
        assert float(presence.sum()) == pytest.approx(-2.0)
