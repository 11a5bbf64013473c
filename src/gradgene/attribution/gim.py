"""Gradient Interaction Modifications: gradients that do not see a network repair itself.

Formula
    score_t = Σ_d g'_d (at the input) · (E_input - E_baseline)_d on the chosen layer, where g' is
    the gradient with three changes on the way back; f itself is untouched.

    1. Norms: the denominator (standard deviation, root mean square, length) is a constant;
       centring is still differentiated.
    2. Attention softmax: y = softmax(z) keeps its value, its derivative is taken as that at a
       higher temperature T: m_z = y' (m_y - Σ y' m_y) with y' = softmax(z / T), without the
       further factor 1 / T that the chain rule would bring.
    3. Products of two activations: each factor gets half of its gradient, so that a product is
       not counted twice: weights × values one half each, queries × keys again one half each.
       Values are thus divided by 2, queries and keys by 4.
Source
    Edin et al. 2025, "GIM: Improved Interpretability for Large Language Models" (arXiv 2505.17630),
    §4; T = 2, the missing 1 / T and the divisors 2 and 4 are those of the authors' released code
    (github.com/JoakimEdin/gim, github.com/corticph/gim: `softmax_temperature=2.0`,
    `q_scale=k_scale=0.25, v_scale=0.5`). Its fourth rule, for gated feed-forward layers, has
    nothing to act on here. The softmax of a probability as target is not one of attention and
    keeps its own gradient.
Promises
    Neither complete nor symmetric, and blind to presence: a gene that only the baseline has scores
    exactly 0. One modified gradient per distinct cell serves all its pairs (spec 0 §5).
Use it
    Where attention spreads over many alike genes, so that plain gradients cancel: the softmax
    takes from one what it gives to the others. Rank by `contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gradgene.attribution.gradients import CellGradientMethod
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, PhenotypeGeneTransformer, UnitNorm
from gradgene.modes import replaced_forward

__all__ = ["Gim"]

#: Attention weights handled at a time: 4 MB of float32, which stay in the processor's cache.
CHUNK = 1 << 20

#: (norm, x, gradient of the output) -> gradient of x.
Rule = Callable[[Any, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Gim(CellGradientMethod):
    """Modified gradient at the input times the difference of embeddings; scores in units of f.

    Parameters
    ----------
    temperature
        T at which the derivative of the attention's softmax is taken; 1 is its own.

    Raises
    ------
    AttributionError
        If `temperature` is not positive; further as `CellGradientMethod`.
    """

    temperature: float = 2.0

    name: ClassVar[str] = "gim"
    needs_baseline: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise AttributionError(
                "not a temperature",
                where="attribution.method.temperature",
                expected="a positive number",
                found=str(self.temperature),
            )

    def backward_rules(self, model: PhenotypeGeneTransformer) -> AbstractContextManager[None]:
        """Inside, norms and attention have the modified gradients."""
        return _modified(model, self.temperature)


class FrozenNorm(torch.autograd.Function):
    """A norm as it is, with its denominator a constant on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.Module, rule: Rule) -> Tensor:
        """The module's own output."""
        ctx.save_for_backward(x)
        ctx.norm, ctx.rule = norm, rule
        own: Callable[..., Tensor] = type(norm).forward
        return own(norm, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradient of x."""
        return ctx.rule(ctx.norm, *ctx.saved_tensors, grads[0]), None, None


class SharedAttention(torch.autograd.Function):
    """An attention core as it is, with the modified softmax and halved products on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        core: Callable[..., Tensor],
        temperature: float,
    ) -> Tensor:
        """The core's own output."""
        ctx.save_for_backward(q, k, v, mask)
        ctx.temperature = temperature
        return core(q, k, v, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Gradients of q, k and v."""
        q, k, v, mask = ctx.saved_tensors
        return (*attention_gradients(q, k, v, mask, grads[0], ctx.temperature), None, None, None)


def attention_gradients(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, m_o: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Modified gradients of q, k and v for the gradient `m_o` of the attended values.

    q, m_o (cells, heads, queries, head dim), k, v (cells, heads, keys, head dim), mask (cells,
    keys) True where a key is present. Queries are handled some at a time, because the weights of
    all of them would not fit in memory for long cells.
    """
    n, h, n_queries, dim = q.shape
    m_q, m_k, m_v = (torch.zeros_like(x) for x in (q, k, v))
    scaled, half = q / math.sqrt(dim), m_o / 2
    absent = ~mask[:, None, None, :]
    step = max(1, CHUNK // (n * h * k.shape[2]))
    for start in range(0, n_queries, step):
        rows = slice(start, start + step)
        z = (scaled[:, :, rows] @ k.transpose(-1, -2)).masked_fill_(absent, -math.inf)
        m_v += z.softmax(dim=-1).transpose(-1, -2) @ half[:, :, rows]
        y = z.div_(temperature).softmax(dim=-1)
        m_y = half[:, :, rows] @ v.transpose(-1, -2)
        m_z = m_y.sub_((y * m_y).sum(dim=-1, keepdim=True)).mul_(y).div_(2)
        m_q[:, :, rows] = m_z @ k / math.sqrt(dim)
        m_k += m_z.transpose(-1, -2) @ scaled[:, :, rows]
    return m_q, m_k, m_v


def _layer_norm(norm: Any, x: Tensor, m: Tensor) -> Tensor:
    deviation = torch.sqrt(x.var(dim=-1, correction=0, keepdim=True) + norm.eps)
    m_centred = m * norm.weight / deviation
    m_x: Tensor = m_centred - m_centred.mean(dim=-1, keepdim=True)
    return m_x


def _rms_norm(norm: Any, x: Tensor, m: Tensor) -> Tensor:
    m_x: Tensor = m * norm.weight * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + norm.eps)
    return m_x


#: Norm -> gradient of its input with a constant denominator.
FROZEN: Mapping[type[nn.Module], Rule] = {
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    UnitNorm: lambda _, x, m: m / x.norm(dim=-1, keepdim=True),
}


@contextmanager
def _modified(model: nn.Module, temperature: float) -> Iterator[None]:
    """Inside, norms are frozen and attention shares its gradient."""
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, AttentionCore):
                core = partial(type(module).forward, module)
                stack.enter_context(replaced_forward(module, partial(_attend, core, temperature)))
            for kind, rule in FROZEN.items():
                if isinstance(module, kind):
                    stand_in = partial(_normalise, module, rule)
                    stack.enter_context(replaced_forward(module, stand_in))
        yield


def _attend(
    core: Callable[..., Tensor], temperature: float, q: Tensor, k: Tensor, v: Tensor, mask: Tensor
) -> Tensor:
    apply: Callable[..., Tensor] = SharedAttention.apply
    return apply(q, k, v, mask, core, temperature)


def _normalise(norm: nn.Module, rule: Rule, x: Tensor) -> Tensor:
    apply: Callable[..., Tensor] = FrozenNorm.apply
    return apply(x, norm, rule)
