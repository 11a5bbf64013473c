"""Gradient interaction modifications: each by hand, and all in whole models of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradgene.attribution import Gim, GradXDelta, gim
from gradgene.attribution.members import Layer, embed_members, read_at
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, UnitNorm
from gradgene.modes import explaining, replaced_forward
from gradgene.pairs import blend
from gradgene.tokens import mask_category
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    everything,
    one_way,
    random_cells,
    random_model,
    same,
    target,
)
from tests.planted import VARIANTS

METHOD = Gim()


def gradients(
    module: nn.Module, given: list[Tensor], seed: Tensor, temperature: float = 2.0
) -> list[Tensor]:
    """Modified gradients of `seed · module(*given)`; attention's mask is the last of `given`."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in given]
    model = nn.ModuleList([module]).double().requires_grad_(False)
    with Gim(temperature=temperature).backward_rules(model):  # type: ignore[arg-type]
        out = module(*leaves)
    assert torch.equal(out, module(*given))
    return list(torch.autograd.grad(out, [x for x in leaves if x.requires_grad], seed))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestNorms:
    def test_layer_norm_by_hand(self) -> None:
        """(1, 3) has mean 2 and deviation 1: y₀ = -1 whatever the input, so its gradient is 0."""
        norm, x, seed = nn.LayerNorm(2, eps=0.0), numbers(1, 3), numbers(1, 0)
        (found,) = gradients(norm, [x], seed)
        torch.testing.assert_close(found, numbers(0.5, -0.5))
        leaf = x.clone().requires_grad_(True)
        (own,) = torch.autograd.grad(norm(leaf), leaf, seed)
        torch.testing.assert_close(own, numbers(0, 0))

    def test_rms_norm_by_hand(self) -> None:
        """(1, 7) has the root mean square 5."""
        norm = nn.RMSNorm(2, eps=0.0)
        with torch.no_grad():
            norm.weight.copy_(numbers(10, 1))
        (found,) = gradients(norm, [numbers(1, 7)], numbers(1, 0))
        torch.testing.assert_close(found, numbers(2, 0))

    def test_length_by_hand(self) -> None:
        (found,) = gradients(UnitNorm(), [numbers(3, 4)], numbers(1, -1))
        torch.testing.assert_close(found, numbers(0.2, -0.2))


def one_query(a: float) -> list[Tensor]:
    """q = 1 attends to keys 0 and a with values 0 and 1; a third key is absent."""
    q, k, v = numbers(1), numbers(0, a, 9), numbers(0, 1, 9)
    mask = torch.tensor([[True, True, False]])
    return [*(x.reshape(1, 1, -1, 1) for x in (q, k, v)), mask]


class TestAttention:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
    def test_by_hand(self, temperature: float) -> None:
        """The output is σ(a); its derivative by a is y(1 - y), with y taken at the temperature.

        Half of it is the weights', and half of that the key's.
        """
        a = 3.0
        seed = numbers(1).reshape(1, 1, 1, 1)
        found = gradients(AttentionCore(), one_query(a), seed, temperature)
        q, k, v = (x.flatten().tolist() for x in found)
        y = 1 / (1 + math.exp(-a / temperature))
        assert q == pytest.approx([a * y * (1 - y) / 4])
        assert k == pytest.approx([-y * (1 - y) / 4, y * (1 - y) / 4, 0])
        weight = 1 / (1 + math.exp(-a))  # values are weighed by the weights as they are
        assert v == pytest.approx([(1 - weight) / 2, weight / 2, 0])

    def test_at_temperature_one_only_the_shares_differ(self) -> None:
        q, k, v, mask, seed = random_attention()
        found = gradients(AttentionCore(), [q, k, v, mask], seed, temperature=1.0)
        leaves = [x.clone().requires_grad_(True) for x in (q, k, v)]
        own = torch.autograd.grad(AttentionCore()(*leaves, mask), leaves, seed)
        for one, other, share in zip(found, own, (4, 4, 2), strict=True):
            torch.testing.assert_close(one, other / share)

    def test_queries_in_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        q, k, v, mask, seed = random_attention()
        whole = gradients(AttentionCore(), [q, k, v, mask], seed)
        monkeypatch.setattr(gim, "CHUNK", 1)
        for one, other in zip(
            gradients(AttentionCore(), [q, k, v, mask], seed), whole, strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)

    def test_a_constant_on_a_row_of_scores_changes_nothing(self) -> None:
        q, k, v, mask, seed = random_attention()
        moved = k + torch.randn(3, dtype=torch.float64)  # as another key bias
        before, after = (gradients(AttentionCore(), [q, x, v, mask], seed) for x in (k, moved))
        for one, other in zip(before, after, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def random_attention() -> tuple[Tensor, ...]:
    """q, k, v of two cells, two heads, five tokens of width three; mask; gradient of the output."""
    draw = torch.Generator().manual_seed(0)
    q, k, v, seed = torch.randn(4, 2, 2, 5, 3, generator=draw, dtype=torch.float64)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    return q, k, v, mask, seed


class Detached:
    """The same modifications in plain autograd, by what it is not told."""

    @staticmethod
    def norm(module: Any, x: Tensor) -> Tensor:
        if isinstance(module, UnitNorm):
            return x / x.norm(dim=-1, keepdim=True).detach()
        if isinstance(module, nn.LayerNorm):
            x = x - x.mean(dim=-1, keepdim=True)
        scale = (x.square().mean(dim=-1, keepdim=True) + module.eps).sqrt().detach()
        y: Tensor = x / scale * module.weight
        return y + module.bias if isinstance(module, nn.LayerNorm) else y

    @staticmethod
    def attend(temperature: float, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        def half(x: Tensor) -> Tensor:
            return x / 2 + (x / 2).detach()

        z = half(q) @ half(k).mT / math.sqrt(q.shape[-1])
        z = z.masked_fill(~mask[:, None, None, :], -math.inf)
        soft = temperature * (z / temperature).softmax(dim=-1)  # 1 / T of the chain rule undone
        weights = z.softmax(dim=-1).detach() + soft - soft.detach()
        return half(weights) @ half(v)


@contextmanager
def detached(model: nn.Module, temperature: float) -> Iterator[None]:
    with ExitStack() as stack:
        for module in model.modules():
            stand_in: Callable[..., Tensor] | None = None
            if isinstance(module, nn.LayerNorm | nn.RMSNorm | UnitNorm):
                stand_in = partial(Detached.norm, module)
            if isinstance(module, AttentionCore):
                stand_in = partial(Detached.attend, temperature)
            if stand_in is not None:
                stack.enter_context(replaced_forward(module, stand_in))
        yield


@pytest.mark.parametrize("size", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("layer", ["total", "value", "identity"])
def test_equals_detached_autograd_pair_by_pair(size: dict[str, Any], layer: Layer) -> None:
    """On every kind of model, on padded blended pairs, nothing shared."""
    model = random_model(1, **size)
    cells = random_cells(5, 1)
    blended = blend(cells, torch.tensor([0, 0, 1, 1]), torch.tensor([2, 3, 3, 4]))
    kind = KINDS[len(size) % 2]
    method = Gim(layer=layer, temperature=1.5)
    masked, _ = mask_category(blended.cells, model.vocabulary, "disease")
    bound = target(kind).bind(model.vocabulary)
    for pairs in (blended, blended.swap()):
        found = one_way(method, model, pairs, target(kind))
        with explaining(model), detached(model, 1.5):
            both = embed_members(model, pairs.with_cells(masked), layer)
            leaf = both.x_input_ptd.clone().requires_grad_(True)
            f_p = read_at(model, layer, leaf, both.mask_input_pt, bound)
            (g_ptd,) = torch.autograd.grad(f_p.sum(), leaf)
        expected = (g_ptd * both.difference_ptd).sum(dim=-1)
        assert (found.scores_pt - expected).abs().max() <= 1e-10 * expected.abs().max()
        torch.testing.assert_close(found.f_input_p, f_p.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_f_is_untouched_and_scores_are_others(kind: str) -> None:
    model, blended = random_model(2), blended_pairs(10, 3)
    plain, found = (m.attribute(model, blended, target(kind)) for m in (GradXDelta(), METHOD))
    assert torch.equal(found.forward.f_input_p, plain.forward.f_input_p)
    assert torch.equal(found.forward.f_baseline_p, plain.forward.f_baseline_p)
    differs = (found.forward.scores_pt - plain.forward.scores_pt).abs()
    assert differs.max() > 0.1 * plain.forward.scores_pt.abs().max()
    # Where the plain gradient sees nothing, in genes of the baseline alone, this sees nothing.
    lacks = ~blended.input.attention_mask_nt
    assert (found.forward.scores_pt[lacks] == 0).all()


def test_a_model_comes_back_after_an_exception_in_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ArithmeticError("in the middle")

    model = random_model()
    before = everything(model)
    monkeypatch.setattr(gim, "attention_gradients", fail)
    with pytest.raises(ArithmeticError, match="in the middle"):
        METHOD.attribute(model, blended_pairs(3), MARGIN)
    assert same(before, everything(model))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_temperature(temperature: float) -> None:
    with pytest.raises(AttributionError, match=r"method\.temperature.*positive"):
        Gim(temperature=temperature)
