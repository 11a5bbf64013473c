"""Multi-head attention in two parts, so that explanations can replace its non-linear core."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AttentionCore", "MultiHeadAttention"]


class AttentionCore(nn.Module):
    """The parameter-free part: softmax(q kᵀ / √d) v over the keys that are present.

    This module is the seam for attribution rules: whoever wants other gradients replaces its
    `forward` and nothing else.
    """

    def forward(self, q_nhsd: Tensor, k_nhtd: Tensor, v_nhtd: Tensor, mask_nt: Tensor) -> Tensor:
        """Attend from s queries to t keys; `mask_nt` is True where a key is present."""
        return F.scaled_dot_product_attention(
            q_nhsd, k_nhtd, v_nhtd, attn_mask=mask_nt[:, None, None, :]
        )


class MultiHeadAttention(nn.Module):
    """Self-attention with biased projections.

    Parameters
    ----------
    dim, n_heads
        Width and number of heads; `dim` must be divisible by `n_heads`.

    Raises
    ------
    ValueError
        If it is not.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"dim {dim} is not divisible by n_heads {n_heads}")
        self.n_heads = n_heads
        self.q_lin, self.k_lin = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.v_lin, self.out_lin = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.core = AttentionCore()

    def forward(self, x_ntd: Tensor, mask_nt: Tensor, queries_nsd: Tensor) -> Tensor:
        """Attend from `queries_nsd` (some positions of `x_ntd`) to all present positions."""
        q, k, v = (
            self._split(lin(x))
            for lin, x in (
                (self.q_lin, queries_nsd),
                (self.k_lin, x_ntd),
                (self.v_lin, x_ntd),
            )
        )
        heads_nhsd: Tensor = self.core(q, k, v, mask_nt)
        out_nsd: Tensor = self.out_lin(heads_nhsd.transpose(1, 2).flatten(2))
        return out_nsd

    def _split(self, x_ntd: Tensor) -> Tensor:
        n, t, d = x_ntd.shape
        return x_ntd.reshape(n, t, self.n_heads, d // self.n_heads).transpose(1, 2)
