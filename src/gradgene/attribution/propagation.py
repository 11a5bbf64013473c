"""Run a model on a baseline and then on an input, with multipliers instead of derivatives.

The baseline pass records, module by module, what each non-linear step received; the input pass
replays the record, so that every step knows both members when its multiplier is needed.

A block of the transformer is one step: its rule runs both members through it again and does the
same inside. What is kept is what both members bring to each block, and the workings of one block.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.attribution.rules import (
    AttentionStep,
    by_rows,
    gelu_multiplier,
    layer_norm_multiplier,
    relu_multiplier,
    rms_norm_multiplier,
    silu_multiplier,
    unit_norm_multiplier,
    working,
)
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, Block, TiedProjector, UnitNorm
from gradgene.modes import replaced_forward

__all__ = ["PairTape", "presence_like"]

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
        x, b = ctx.saved_tensors
        return by_rows(partial(ctx.rule, ctx.module), x, b, grads[0]), None, None, None


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


class PairedBlock(torch.autograd.Function):
    """A block that keeps only what it was given, and runs again for its multipliers."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        presence_pt: Tensor,
        mask: Tensor,
        slot: int | None,
        baseline: tuple[Tensor, Tensor],
        block: nn.Module,
    ) -> Tensor:
        """The block's own output for the input; `presence_pt` only collects scores."""
        ctx.save_for_backward(x, mask, *baseline)
        ctx.slot, ctx.block = slot, block
        own: Callable[..., Tensor] = type(block).forward
        return own(block, x, mask, slot)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Multipliers of x and the presence scores of the block's attention."""
        x, mask, *baseline = ctx.saved_tensors
        own = partial(type(ctx.block).forward, ctx.block)
        with torch.enable_grad():
            x, presence_pt = x.detach().requires_grad_(True), presence_like(x)
            tape = PairTape(ctx.block, presence_pt)
            with tape.recording():
                own(*baseline, ctx.slot)
            with tape.replaying():
                out = own(x, mask, ctx.slot)
            given = torch.autograd.grad(out, (x, presence_pt), grads[0])
        return (*given, None, None, None, None)


class PairTape:
    """Records a module's non-linear steps on the baseline and replays them under the input.

    Parameters
    ----------
    module
        Any module built of linear layers, blocks, `AttentionCore` and the steps that have `RULES`;
        or a block, for the steps inside.
    presence_pt
        (pairs, positions) zeros that require grad; their gradient will be the presence scores.

    Raises
    ------
    AttributionError
        If the module has a leaf without a rule.
    """

    def __init__(self, module: nn.Module, presence_pt: Tensor) -> None:
        _require_rules(module)
        self.steps = list(_steps(module))
        self.presence_pt = presence_pt
        self.tape: dict[nn.Module, deque[tuple[Any, ...]]] = defaultdict(deque)

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

        def record(*args: Any) -> Tensor:
            self.tape[module].append(args)
            return own(module, *args)

        return record

    def _replayer(self, module: nn.Module) -> Callable[..., Tensor]:
        # Taken off the tape, so that nothing outlives the backward pass of its step.
        recorded = self.tape[module].popleft
        if isinstance(module, Block):
            return lambda x, mask, slot: _applied(
                PairedBlock, x, self.presence_pt, mask, slot, recorded()[:2], module
            )
        if isinstance(module, AttentionCore):
            core = partial(type(module).forward, module)
            return lambda q, k, v, mask: _applied(
                PairedAttention, q, k, v, self.presence_pt, mask, core, recorded()
            )
        rule = next(r for kind, r in RULES.items() if isinstance(module, kind))
        return lambda x: _applied(Paired, x, *recorded(), module, rule)


def presence_like(x_ptd: Tensor) -> Tensor:
    """Zeros (pairs, positions) of float32 at least, whose gradient will be the presence scores."""
    return torch.zeros_like(x_ptd[..., 0], dtype=working(x_ptd), requires_grad=True)


def _steps(module: nn.Module) -> Iterator[nn.Module]:
    """The non-linear steps inside a module; a block is one of them, whatever it is made of."""
    for child in module.children():
        if isinstance(child, (Block, AttentionCore, *RULES)):
            yield child
        else:
            yield from _steps(child)


def _require_rules(module: nn.Module) -> None:
    known = (*LINEAR, AttentionCore, *RULES, nn.ModuleList)
    for name, part in module.named_modules():
        leaf = not any(True for _ in part.children())
        if leaf and not isinstance(part, known):
            raise AttributionError(
                f"complete DeepLIFT has no rule for {type(part).__name__} ({name})",
                where="attribution.method",
                fix="choose attribution=grad_x_delta",
            )
        if isinstance(part, nn.GELU) and part.approximate != "none":
            raise AttributionError(f"complete DeepLIFT knows only the exact GELU ({name})")


def _applied(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    """`function.apply`, which torch leaves untyped."""
    apply: Callable[..., Tensor] = function.apply
    return apply(*args)
