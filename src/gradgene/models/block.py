"""One layer of the transformer, and the norms and activations it can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from gradgene.models.attention import MultiHeadAttention

__all__ = ["ACTIVATIONS", "NORMS", "Activation", "Block", "Norm"]

Norm = Literal["layer", "rms"]
Activation = Literal["gelu", "relu", "silu"]

NORMS: Mapping[str, type[nn.LayerNorm] | type[nn.RMSNorm]] = {
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
}
ACTIVATIONS: Mapping[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class Block(nn.Module):
    """Attention and feed-forward, each added to what came in.

    With `norm_first` each part reads normalised states and its sum is left as it is (pre-norm);
    without, the sum is normalised (post-norm).
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        hidden_dim: int,
        dropout: float,
        layer_norm_eps: float,
        norm: Norm,
        norm_first: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = MultiHeadAttention(dim, n_heads)
        self.sa_layer_norm = NORMS[norm](dim, eps=layer_norm_eps)
        self.lin1, self.lin2 = nn.Linear(dim, hidden_dim), nn.Linear(hidden_dim, dim)
        self.activation = ACTIVATIONS[activation]()
        self.output_layer_norm = NORMS[norm](dim, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_ntd: Tensor, mask_nt: Tensor, slot: int | None = None) -> Tensor:
        """All positions, or only position `slot` (cells, 1, dim) attending to all."""
        x = x_ntd if slot is None else x_ntd[:, slot : slot + 1]
        read_ntd, queries = x_ntd, x
        if self.norm_first:
            read_ntd = self.sa_layer_norm(x_ntd)
            queries = read_ntd if slot is None else read_ntd[:, slot : slot + 1]
        x = x + self.dropout(self.attention(read_ntd, mask_nt, queries))
        if self.norm_first:
            out_ntd: Tensor = x + self._feed(self.output_layer_norm(x))
        else:
            x = self.sa_layer_norm(x)
            out_ntd = self.output_layer_norm(x + self._feed(x))
        return out_ntd

    def _feed(self, x_ntd: Tensor) -> Tensor:
        fed_ntd: Tensor = self.dropout(self.lin2(self.activation(self.lin1(x_ntd))))
        return fed_ntd
