"""Run a model on a baseline and then on an input, with multipliers instead of derivatives.

The baseline pass records, module by module, what each non-linear step received; the input pass
replays the record, so that every step knows both members when its multiplier is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.attribution.rules import (
    AttentionStep,
    gelu_multiplier,
    layer_norm_multiplier,
    relu_multiplier,
    rms_norm_multiplier,
    silu_multiplier,
    unit_norm_multiplier,
)
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, TiedProjector, UnitNorm
from gradgene.modes import replaced_forward

__all__ = ["PairTape"]

#: Modules that are linear in their input, or the identity when explaining: derivatives are exact.
LINEAR = (nn.Linear, nn.Embedding, nn.Dropout, nn.Identity, TiedProjector)

#: (module, x, b, multiplier of the output) -> multiplier of the input.
Rule = Callable[[Any, Tensor, Tensor, Tensor], Tensor]

#: The steps of one tensor; attention, which takes several, is handled apart.
RULES: Mapping[type[nn.Module], Rule] = {
    nn.GELU: lambda _, x, b, m: m * gelu_multiplier(x, b),
    nn.ReLU: lambda _, x, b, m: m * relu_multiplier(x, b),
    nn.SiLU: lambda _, x, b, m: m * silu_multiplier(x, b),
    nn.LayerNorm: lambda norm, x, b, m: layer_norm_multiplier(x, b, m, norm.weight, norm.eps),
    nn.RMSNorm: lambda norm, x, b, m: rms_norm_multiplier(x, b, m, norm.weight, norm.eps),
    UnitNorm: lambda _, x, b, m: unit_norm_multiplier(x, b, m),
}


class Paired(torch.autograd.Function):
    """A step of one tensor whose backward is its finite-difference rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, b: Tensor, module: nn.Module, rule: Rule) -> Tensor:
        """The module's own output for the input."""
        ctx.save_for_backward(x, b)
        ctx.module, ctx.rule = module, rule
        own: Callable[..., Tensor] = type(module).forward
        return own(module, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Multiplier of x."""
        return ctx.rule(ctx.module, *ctx.saved_tensors, grads[0]), None, None, None


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
        Any module built of linear layers, `AttentionCore` and the steps that have `RULES`.
    presence_pt
        (pairs, positions) zeros that require grad; their gradient will be the presence scores.

    Raises
    ------
    AttributionError
        If the model has a leaf module without a rule.
    """

    def __init__(self, model: nn.Module, presence_pt: Tensor) -> None:
        steps: tuple[type[nn.Module], ...] = (AttentionCore, *RULES)
        self.steps = [m for m in model.modules() if isinstance(m, steps)]
        self.presence_pt = presence_pt
        self.tape: dict[nn.Module, list[tuple[Tensor, ...]]] = defaultdict(list)
        for name, module in model.named_modules():
            leaf = not any(True for _ in module.children())
            if leaf and not isinstance(module, (*LINEAR, *steps, nn.ModuleList)):
                raise AttributionError(
                    f"complete DeepLIFT has no rule for {type(module).__name__} ({name})",
                    where="attribution.method",
                    fix="choose attribution=grad_x_delta",
                )
            if isinstance(module, nn.GELU) and module.approximate != "none":
                raise AttributionError(f"complete DeepLIFT knows only the exact GELU ({name})")

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

    def _recorder(self, module: nn.Module) -> Callable[..., Tensor]:
        own: Callable[..., Tensor] = type(module).forward

        def record(*args: Tensor) -> Tensor:
            self.tape[module].append(args)
            return own(module, *args)

        return record

    def _replayer(self, module: nn.Module) -> Callable[..., Tensor]:
        recorded = iter(self.tape[module])
        if isinstance(module, AttentionCore):
            core = partial(type(module).forward, module)
            return lambda q, k, v, mask: _applied(
                PairedAttention, q, k, v, self.presence_pt, mask, core, next(recorded)
            )
        rule = next(r for kind, r in RULES.items() if isinstance(module, kind))
        return lambda x: _applied(Paired, x, *next(recorded), module, rule)


def _applied(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    """`function.apply`, which torch leaves untyped."""
    apply: Callable[..., Tensor] = function.apply
    return apply(*args)
