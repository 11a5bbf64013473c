"""A borrowed model comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from gradgene.modes import explaining, replaced_forward


def build() -> nn.Sequential:
    """A mixed bag: the dropout trains, the first layer is frozen, the last one is not."""
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Dropout(0.5), nn.Sequential(nn.GELU()), nn.Linear(4, 1)
    )
    model[0].requires_grad_(False)
    model[0].eval()
    return model


def state(model: nn.Module) -> list[bool]:
    flags = [m.training for m in model.modules()]
    return flags + [p.requires_grad for p in model.parameters()]


def attached(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)
    return hooks + sum("forward" in vars(m) for m in model.modules())


def nothing(*_: object) -> None:
    """A hook that does nothing."""


def test_inside_the_model_is_frozen_and_in_evaluation_mode() -> None:
    model = build()
    with explaining(model):
        assert not any(state(model))


def test_flags_come_back() -> None:
    model = build()
    before = state(model)
    assert any(before) and not all(before)
    with explaining(model):
        pass
    assert state(model) == before


def test_flags_and_hooks_come_back_after_an_exception() -> None:
    model = build()
    before = state(model)
    with pytest.raises(ZeroDivisionError), explaining(model):
        model[0].register_forward_hook(nothing)
        vars(model[3])["forward"] = nothing
        raise ZeroDivisionError
    assert state(model) == before
    assert attached(model) == 0


@pytest.mark.parametrize(
    "attach",
    [
        lambda layer: layer.register_forward_hook(nothing),
        lambda layer: layer.register_forward_pre_hook(nothing),
        lambda layer: layer.register_full_backward_hook(nothing),
        lambda layer: layer.register_full_backward_pre_hook(nothing),
        lambda layer: layer.__dict__.update(forward=nothing),
    ],
)
def test_leaks_are_errors_and_are_removed(attach: Callable[[nn.Module], object]) -> None:
    model = build()
    with pytest.raises(RuntimeError, match=r"left behind.*'2.0'"), explaining(model):
        attach(model.get_submodule("2.0"))
    assert attached(model) == 0


def test_what_was_attached_before_stays() -> None:
    model = build()
    model[0].register_forward_hook(nothing)
    with explaining(model):
        handle = model[0].register_forward_hook(nothing)
        handle.remove()
    assert attached(model) == 1


@pytest.mark.parametrize("surroundings", [nullcontext, torch.no_grad, torch.inference_mode])
def test_gradients_flow_whatever_the_surroundings(
    surroundings: Callable[[], AbstractContextManager[object]],
) -> None:
    model = build()
    with surroundings():
        grad_was, inference_was = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        with explaining(model):
            x = torch.ones(2, 3, requires_grad=True)
            (gradient,) = torch.autograd.grad(model(x).sum(), x)
        assert torch.is_grad_enabled() == grad_was
        assert torch.is_inference_mode_enabled() == inference_was
    assert gradient.abs().sum() > 0
    assert all(p.grad is None for p in model.parameters())


def test_replaced_forward_stands_in_and_steps_back() -> None:
    layer = nn.GELU()
    x = torch.tensor([1.0])

    def triple(x: Tensor) -> Tensor:
        return 3 * x

    def negative(x: Tensor) -> Tensor:
        return -x

    with replaced_forward(layer, triple):
        with replaced_forward(layer, negative):
            assert layer(x) == -1
        assert layer(x) == 3
    assert "forward" not in vars(layer)
    assert layer(x) == nn.functional.gelu(x)


def test_replaced_forward_steps_back_after_an_exception() -> None:
    layer = nn.GELU()
    with pytest.raises(ZeroDivisionError), replaced_forward(layer, nothing):
        raise ZeroDivisionError
    assert "forward" not in vars(layer)
