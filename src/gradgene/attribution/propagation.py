"""Run a model on a baseline and then on an input, with multipliers instead of derivatives.

The baseline pass records, module by module, what each non-linear step received; the input pass
replays the record, so that every step knows both members when its multiplier is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.attribution.rules import AttentionStep, gelu_multiplier, layer_norm_multiplier
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore
from gradgene.modes import replaced_forward

__all__ = ["PairTape"]

#: Modules that are linear in their input, or the identity when explaining: derivatives are exact.
LINEAR = (nn.Linear, nn.Embedding, nn.Dropout, nn.Identity)


class PairedGelu(torch.autograd.Function):
    """GELU whose backward is the secant through input and baseline."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor) -> Tensor:
        """GELU of the input."""
        ctx.save_for_backward(x, b)
        return nn.functional.gelu(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Multiplier of x."""
        x, b = ctx.saved_tensors
        return grads[0] * gelu_multiplier(x, b), None


class PairedLayerNorm(torch.autograd.Function):
    """LayerNorm whose backward is the composed finite-difference rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor, norm: nn.LayerNorm) -> Tensor:
        """LayerNorm of the input."""
        ctx.save_for_backward(x, b)
        ctx.weight, ctx.eps = norm.weight, norm.eps
        return nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Multiplier of x."""
        x, b = ctx.saved_tensors
        return layer_norm_multiplier(x, b, grads[0], ctx.weight, ctx.eps), None, None


class PairedAttention(torch.autograd.Function):
    """Attention core whose backward is complete; presence scores flow to `presence_pt`."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        presence_pt: Tensor,
        mask: Tensor,
        core: Callable[..., Tensor],
        baseline: tuple[Tensor, ...],
    ) -> Tensor:
        """The core's own output for the input; `presence_pt` only collects scores."""
        ctx.save_for_backward(q, k, v, mask, *baseline)
        return core(q, k, v, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Multipliers of q, k, v and the presence scores."""
        return (*AttentionStep(*ctx.saved_tensors).multipliers(grads[0]), None, None, None)


class PairTape:
    """Records a model's non-linear steps on the baseline and replays them under the input.

    Parameters
    ----------
    model
        Any module built of linear layers, GELU, LayerNorm and `AttentionCore`.
    presence_pt
        (pairs, positions) zeros that require grad; their gradient will be the presence scores.

    Raises
    ------
    AttributionError
        If the model has a leaf module without a rule.
    """

    def __init__(self, model: nn.Module, presence_pt: Tensor) -> None:
        self.steps = [m for m in model.modules() if isinstance(m, tuple(self._rules()))]
        self.presence_pt = presence_pt
        self.tape: dict[nn.Module, list[tuple[Tensor, ...]]] = defaultdict(list)
        for name, module in model.named_modules():
            leaf = not any(True for _ in module.children())
            known = isinstance(module, (*LINEAR, *self._rules()))
            if leaf and not known and not isinstance(module, nn.ModuleList):
                raise AttributionError(
                    f"complete DeepLIFT has no rule for {type(module).__name__} ({name})",
                    where="attribution.method",
                    fix="choose attribution=grad_x_delta",
                )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside, every non-linear step notes what it receives."""
        with ExitStack() as stack, torch.no_grad():
            for module in self.steps:
                stack.enter_context(replaced_forward(module, self._recorder(module)))
            yield

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Inside, every non-linear step differentiates by its finite-difference rule."""
        with ExitStack() as stack:
            for module in self.steps:
                stack.enter_context(replaced_forward(module, self._replayer(module)))
            yield

    def _rules(self) -> dict[type[nn.Module], Callable[..., Tensor]]:
        return {
            nn.GELU: self._gelu,
            nn.LayerNorm: self._layer_norm,
            AttentionCore: self._attention,
        }

    def _recorder(self, module: nn.Module) -> Callable[..., Tensor]:
        own: Callable[..., Tensor] = type(module).forward

        def record(*args: Tensor) -> Tensor:
            self.tape[module].append(args)
            return own(module, *args)

        return record

    def _replayer(self, module: nn.Module) -> Callable[..., Tensor]:
        rule = next(r for kind, r in self._rules().items() if isinstance(module, kind))
        recorded = iter(self.tape[module])
        return lambda *args: rule(module, args, next(recorded))

    def _gelu(self, module: nn.GELU, x: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
        if module.approximate != "none":
            raise AttributionError("complete DeepLIFT knows only the exact GELU")
        return _applied(PairedGelu, x[0], b[0])

    def _layer_norm(
        self, module: nn.LayerNorm, x: tuple[Tensor, ...], b: tuple[Tensor, ...]
    ) -> Tensor:
        return _applied(PairedLayerNorm, x[0], b[0], module)

    def _attention(
        self, module: AttentionCore, x: tuple[Tensor, ...], b: tuple[Tensor, ...]
    ) -> Tensor:
        q, k, v, mask = x
        own: Callable[..., Tensor] = type(module).forward
        core = partial(own, module)
        return _applied(PairedAttention, q, k, v, self.presence_pt, mask, core, b)


def _applied(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    """`function.apply`, which torch leaves untyped."""
    apply: Callable[..., Tensor] = function.apply
    return apply(*args)
