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

#: Attention weights handled at a time: 4 MB of float32, which stay in the processor's cache.
CHUNK = 1 << 20

__all__ = [
    "AttentionStep",
    "gelu_multiplier",
    "layer_norm_multiplier",
    "log_mean",
    "relu_multiplier",
    "rms_norm_multiplier",
    "secant",
    "silu_multiplier",
    "unit_norm_multiplier",
]


def secant(
    x: Tensor, b: Tensor, phi: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> Tensor:
    """(φ(x) - φ(b)) / (x - b) elementwise, and φ' at the midpoint where x and b nearly agree.

    The midpoint keeps the rule symmetric and its error third order in x - b.
    """
    step = 1e-5 if x.dtype == torch.float64 else 1e-3
    delta = x - b
    close = delta.abs() < step * torch.maximum(x.abs(), b.abs()).clamp(min=1)
    ratio = (phi(x) - phi(b)) / torch.where(close, torch.ones_like(delta), delta)
    return torch.where(close, slope((x + b) / 2), ratio)


def gelu_multiplier(x: Tensor, b: Tensor) -> Tensor:
    """Multiplier of the exact (erf) GELU."""
    return secant(x, b, torch.nn.functional.gelu, _gelu_slope)


def _gelu_slope(x: Tensor) -> Tensor:
    cdf = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return cdf + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


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
    return m_centred - m_centred.mean(-1, keepdim=True)


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
    m_r = (m * (x + b) / 2).sum(-1, keepdim=True)
    m_mean = m_r * -((r_x * r_b) ** 2) / (r_x + r_b)
    return m * (r_x + r_b) / 2 + m_mean * (x + b) / x.shape[-1]


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
        presence (m_y - M)(y_x - y_b). Queries are handled some at a time, because the weights of
        all of them would not fit in memory for long cells.
        """
        p, h, n_queries, _ = self.q_x.shape
        m_q, m_k, m_v = (torch.zeros_like(x) for x in (self.q_x, self.k_x, self.v_x))
        presence_pt = torch.zeros_like(self.k_x[:, 0, :, 0])
        step = max(1, CHUNK // (p * h * self.k_x.shape[2]))
        for start in range(0, n_queries, step):
            rows = slice(start, start + step)
            m_z, y_mean, appeared = self._weight_multipliers(rows, m_o[:, :, rows])
            m_q[:, :, rows] = m_z @ ((self.k_x + self.k_b) / 2)
            m_k += m_z.transpose(-1, -2) @ ((self.q_x + self.q_b)[:, :, rows] / 2)
            m_v += y_mean.transpose(-1, -2) @ m_o[:, :, rows]
            presence_pt += appeared
        return m_q, m_k, m_v, presence_pt

    def _weight_multipliers(self, rows: slice, m_o: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For some queries: multiplier of q kᵀ, mean weights, and presence scores summed."""
        log_x = _log_weights(self.q_x[:, :, rows], self.k_x, self.mask_x)
        log_b = _log_weights(self.q_b[:, :, rows], self.k_b, self.mask_b)
        y_x, y_b = log_x.exp(), log_b.exp()
        m_y = m_o @ ((self.v_x + self.v_b) / 2).transpose(-1, -2)
        # Relative to the largest shared weight, because beside keys of one member only all shared
        # weights may underflow, and their sum would be 0.
        shared = (self.mask_x & self.mask_b)[:, None, None, :]
        largest = torch.maximum(log_x, log_b).masked_fill(~shared, -math.inf).amax(-1, keepdim=True)
        ell = log_mean(log_x - largest, log_b - largest)
        centred = m_y - (ell * m_y).sum(-1, keepdim=True) / ell.sum(-1, keepdim=True)
        ell = ell * largest.exp()
        one_sided = (self.mask_x ^ self.mask_b)[:, None, None, :]
        appeared = (centred * (y_x - y_b)).masked_fill(~one_sided, 0).sum(dim=(1, 2))
        m_z = ell * centred / math.sqrt(self.q_x.shape[-1])
        return m_z, (y_x + y_b) / 2, appeared


def _log_weights(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """log softmax(q kᵀ / √d) over present keys; -inf for absent ones."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask[:, None, None, :], -math.inf).log_softmax(dim=-1)
