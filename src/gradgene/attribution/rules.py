"""Finite-difference multipliers: the backward rules of complete DeepLIFT (spec 0 §3).

Every rule takes the values x of the input and b of the baseline at one step and the multiplier
m of the step's output, and returns multipliers of the step's inputs with the exact property
Σ m_in (x_in - b_in) = Σ m_out (x_out - b_out). Each rule is symmetric in x and b, so exchanging
input and baseline leaves multipliers unchanged and negates every score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Numbers handled at a time on a CPU (2 MB of float32), so that the steps of a rule find them in
#: the processor's cache; and on an accelerator, where many small steps would cost more.
CHUNK, ACCELERATOR_CHUNK = 1 << 19, 1 << 25

__all__ = [
    "AttentionStep",
    "by_rows",
    "chunk",
    "gelu_multiplier",
    "layer_norm_multiplier",
    "log_mean",
    "relu_multiplier",
    "rms_norm_multiplier",
    "secant",
    "silu_multiplier",
    "unit_norm_multiplier",
]


def chunk(x: Tensor) -> int:
    """How many numbers to handle at a time where `x` is."""
    return CHUNK if x.device.type == "cpu" else ACCELERATOR_CHUNK


def working(x: Tensor) -> torch.dtype:
    """The precision of finite differences: that of `x`, but float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def by_rows(
    rule: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, b: Tensor, m: Tensor
) -> Tensor:
    """`rule(x, b, m)`, some rows (last axis) at a time and in float32 at least; shaped as m."""
    flat = [z.reshape(-1, z.shape[-1]) for z in (x, b, m)]
    out = torch.empty_like(flat[2])
    n_rows = max(1, chunk(x) // x.shape[-1])
    for *given, made in zip(*(z.split(n_rows) for z in (*flat, out)), strict=True):
        made.copy_(rule(*(z.to(working(z)) for z in given)))
    return out.reshape(m.shape)


def secant(
    x: Tensor, b: Tensor, phi: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> Tensor:
    """(φ(x) - φ(b)) / (x - b) elementwise, and φ' at the midpoint where x and b nearly agree.

    The midpoint keeps the rule symmetric and its error third order in x - b.
    """
    step = 1e-5 if x.dtype == torch.float64 else 1e-3
    gap = x - b
    reach = torch.maximum(x.abs(), b.abs()).clamp_(min=1).mul_(step)
    # Numbers 0 and 1: choosing by a boolean takes several times as long.
    close = torch.lt(gap.abs(), reach, out=torch.empty_like(gap))
    gap.addcmul_(reach, close, value=2)  # so that nothing is divided by 0
    ratio = phi(x).sub_(phi(b)).div_(gap)
    return ratio.lerp_(slope(reach.copy_(x).add_(b).mul_(0.5)), close)


def gelu_multiplier(x: Tensor, b: Tensor) -> Tensor:
    """Multiplier of the exact (erf) GELU."""
    return secant(x, b, torch.nn.functional.gelu, _gelu_slope)


def _gelu_slope(x: Tensor) -> Tensor:
    slope: Tensor = torch.ops.aten.gelu_backward(torch.ones_like(x), x)
    return slope


def silu_multiplier(x: Tensor, b: Tensor) -> Tensor:
    """Multiplier of SiLU, x σ(x)."""
    return secant(x, b, torch.nn.functional.silu, _silu_slope)


def _silu_slope(x: Tensor) -> Tensor:
    sigma = torch.sigmoid(x)
    return sigma * (1 + x * (1 - sigma))


def relu_multiplier(x: Tensor, b: Tensor) -> Tensor:
    """Multiplier of ReLU: the share of the way from one to the other that is above zero.

    In this form nothing cancels, so that it is exact however close x and b are.
    """
    above, below = torch.maximum(x, b).clamp(min=0), torch.minimum(x, b).clamp(max=0)
    way = above - below
    return above / torch.where(way > 0, way, torch.ones_like(way))


def layer_norm_multiplier(x: Tensor, b: Tensor, m: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Multiplier through centre → square → mean → rsqrt → product → affine.

    x, b, m (..., dim); `weight` (dim,).
    """
    centred_x, centred_b = x - x.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    m_centred = _over_root_mean_square(centred_x, centred_b, m * weight, eps)
    return m_centred.sub_(m_centred.mean(-1, keepdim=True))


def rms_norm_multiplier(x: Tensor, b: Tensor, m: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Multiplier through square → mean → rsqrt → product → weight; shapes as of LayerNorm."""
    return _over_root_mean_square(x, b, m * weight, eps)


def unit_norm_multiplier(x: Tensor, b: Tensor, m: Tensor) -> Tensor:
    """Multiplier of x / |x|, which is x over its root mean square and over √dim."""
    return _over_root_mean_square(x, b, m, eps=0.0) / math.sqrt(x.shape[-1])


def _over_root_mean_square(x: Tensor, b: Tensor, m: Tensor, eps: float) -> Tensor:
    """Products take the half-sum rule, the square x + b, and rsqrt -(r_x r_b)² / (r_x + r_b)."""
    r_x = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    r_b = torch.rsqrt(b.square().mean(-1, keepdim=True) + eps)
    both = x + b
    m_r = (m * both).sum(-1, keepdim=True) / 2
    m_mean = m_r * -((r_x * r_b) ** 2) / (r_x + r_b)
    return (m * ((r_x + r_b) / 2)).addcmul_(both, m_mean / x.shape[-1])


def log_mean(log_x: Tensor, log_b: Tensor) -> Tensor:
    """Logarithmic mean of two positive numbers given by their logarithms; 0 where one is 0.

    (x - b) / (ln x - ln b), or the geometric mean where the logarithms nearly agree.
    """
    step = 1e-6 if log_x.dtype == torch.float64 else 1e-4
    present = torch.isfinite(log_x) & torch.isfinite(log_b)
    log_x, log_b = log_x.masked_fill(~present, 0), log_b.masked_fill(~present, 0)
    gap = log_x - log_b
    close = gap.abs() < step
    mean = (log_x.exp() - log_b.exp()) / torch.where(close, torch.ones_like(gap), gap)
    mean = torch.where(close, ((log_x + log_b) / 2).exp(), mean)
    return mean.masked_fill(~present, 0)


@dataclass(frozen=True)
class AttentionStep:
    """One attention core with both members' queries, keys, values and key masks.

    q (pairs, heads, queries, head dim), k and v (pairs, heads, keys, head dim), masks
    (pairs, keys) True where a key is present. Axis letters below: p pairs, h heads, s queries,
    t keys, d head dim.
    """

    q_x: Tensor
    k_x: Tensor
    v_x: Tensor
    mask_x: Tensor
    q_b: Tensor
    k_b: Tensor
    v_b: Tensor
    mask_b: Tensor

    def multipliers(self, m_o: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Multipliers of q, k and v, and the presence score of each key (pairs, keys).

        `m_o` (pairs, heads, queries, head dim) is the multiplier of the attended values. Both
        matrix products take the half-sum rule, the softmax the logarithmic-mean rule; a key
        present in one member only has no score multiplier, and its appearance is scored as
        presence (m_y - M)(y_x - y_b). Some heads or queries are handled at a time, because the
        weights of all of them would not fit in memory for long cells.
        """
        m_q, m_k, m_v = (torch.zeros_like(x) for x in (self.q_x, self.k_x, self.v_x))
        presence_pt = torch.zeros_like(self.k_x[:, 0, :, 0], dtype=working(self.k_x))
        for i in range(len(m_o)):
            pair = _Pair(self, i, m_o[i])
            pair.run()
            m_q[i] = pair.m_q
            m_k[i][:, pair.at], m_v[i][:, pair.at] = (m.to(m_q.dtype) for m in (pair.m_k, pair.m_v))
            presence_pt[i, pair.at] = pair.presence
        return m_q, m_k, m_v, presence_pt


class _Pair:
    """The attention of one pair over the keys that are there: shared, input-only, baseline-only.

    In this order every kind is a slice, and no mask has to be applied to any weight. The factor
    1/√d goes with the queries.
    """

    def __init__(self, step: AttentionStep, i: int, m_o: Tensor) -> None:
        in_x, in_b = step.mask_x[i], step.mask_b[i]
        kinds = [kind.nonzero()[:, 0] for kind in (in_x & in_b, in_x & ~in_b, in_b & ~in_x)]
        self.at = torch.cat(kinds)
        self.n = n = len(kinds[0])
        self.n_x = n_x = n + len(kinds[1])
        dtype, scale = working(step.q_x), 1 / math.sqrt(step.q_x.shape[-1])
        self.m_o = m_o.to(dtype)
        self.q_x, self.q_b = (q[i].to(dtype) * scale for q in (step.q_x, step.q_b))
        k_x, k_b, v_x, v_b = (
            z[i][:, self.at].to(dtype) for z in (step.k_x, step.k_b, step.v_x, step.v_b)
        )
        self.k_x, self.k_b = k_x[:, :n_x], torch.cat([k_b[:, :n], k_b[:, n_x:]], dim=1)
        self.q_mean, self.v_mean = (self.q_x + self.q_b) / 2, (v_x + v_b) / 2
        self.k_mean = (k_x[:, :n] + k_b[:, :n]) * (scale / 2)
        self.m_q, self.m_k, self.m_v = (torch.zeros_like(z) for z in (self.q_x, k_x, v_x))
        self.presence = torch.zeros_like(k_x[0, :, 0])

    def run(self) -> None:
        """Fill the multipliers and the presence scores of the keys `at`."""
        (n_heads, n_queries, _), n_keys = self.q_x.shape, len(self.at)
        size = chunk(self.q_x)
        n_rows = min(n_queries, max(1, size // n_keys))
        some = max(1, size // (n_rows * n_keys))
        for head in range(0, n_heads, some):
            for row in range(0, n_queries, n_rows):
                self._add(slice(head, head + some), slice(row, row + n_rows))

    def _add(self, heads: slice, rows: slice) -> None:
        """Add what some queries of some heads give."""
        n, n_x, m_o = self.n, self.n_x, self.m_o[heads, rows]
        z_x = self.q_x[heads, rows] @ self.k_x[heads].mT
        z_b = self.q_b[heads, rows] @ self.k_b[heads].mT
        y_x, y_b = z_x.softmax(dim=-1), z_b.softmax(dim=-1)
        m_y = m_o @ self.v_mean[heads].mT
        lse_x, lse_b = _log_sum(z_x, y_x), _log_sum(z_b, y_b)
        gap = (z_x[..., :n] - z_b[..., :n]).sub_(lse_x - lse_b)
        rise = y_x[..., :n] - y_b[..., :n]
        both = y_x[..., :n].add_(y_b[..., :n])
        ell = _log_mean_of(rise, gap, both)
        weighted, total = ell * m_y[..., :n], ell.sum(-1, keepdim=True)
        mean = weighted.sum(-1, keepdim=True) / total
        if bool((total < _least_total(total.dtype)).any()):
            mean = _mean_beside_others(z_x[..., :n] - lse_x, z_b[..., :n] - lse_b, m_y[..., :n])
        m_z = weighted.addcmul_(ell, mean, value=-1)
        self.m_q[heads, rows] = m_z @ self.k_mean[heads]
        self.m_k[heads, :n] += m_z.mT @ self.q_mean[heads, rows]
        half_o = m_o / 2
        self.m_v[heads, :n_x] += y_x.mT @ half_o
        self.m_v[heads, n_x:] += y_b[..., n:].mT @ half_o
        centred = m_y[..., n:].sub_(mean)
        self.presence[n:n_x] += (centred[..., : n_x - n] * y_x[..., n:]).sum(dim=(0, 1))
        self.presence[n_x:] -= (centred[..., n_x - n :] * y_b[..., n:]).sum(dim=(0, 1))


def _log_sum(z: Tensor, y: Tensor) -> Tensor:
    """ln Σ exp z along the last axis, given y = softmax z: the largest y is exp z over that."""
    return z.amax(-1, keepdim=True) - y.amax(-1, keepdim=True).log()


def _log_mean_of(rise: Tensor, gap: Tensor, both: Tensor) -> Tensor:
    """Logarithmic means from x - b, ln x - ln b and x + b; overwrites the first two.

    (rise gap + ε both/2) / (gap² + ε) is rise / gap far from 0 and the mean (x + b)/2 near it, and
    differs from the logarithmic mean by less than ε/12 of it everywhere.
    """
    epsilon = 1e-12 if gap.dtype == torch.float64 else 1e-6
    return rise.mul_(gap).add_(both, alpha=epsilon / 2).div_(gap.square_().add_(epsilon))


def _least_total(dtype: torch.dtype) -> float:
    """Sums of weights below this have lost digits."""
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


def _mean_beside_others(log_x: Tensor, log_b: Tensor, m_y: Tensor) -> Tensor:
    """M of the softmax rule by logarithms: all shared weights may underflow beside the others."""
    largest = torch.maximum(log_x, log_b).amax(-1, keepdim=True)
    ell = log_mean(log_x - largest, log_b - largest)
    return (ell * m_y).sum(-1, keepdim=True) / ell.sum(-1, keepdim=True)
