"""From hidden states to logits: over all input ids, or over the labels of one category."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Classifier", "Head", "TiedProjector", "UnitNorm"]

#: Over the input ids: a transformed state projected; its direction projected and divided by a
#: temperature; or no such head, where a classifier is all there is.
Head = Literal["transform", "sphere", "none"]


class UnitNorm(nn.Module):
    """h / |h|: the direction of a hidden state."""

    def forward(self, hidden_ntd: Tensor) -> Tensor:
        """Vectors of length 1 along the last axis."""
        length_nt1: Tensor = hidden_ntd.norm(dim=-1, keepdim=True)
        return hidden_ntd / length_nt1


class TiedProjector(nn.Module):
    """A projection by the value embedding, which it is given; only the bias is its own."""

    def __init__(self, n_values: int, bias: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_values)) if bias else None

    def forward(self, features_ntd: Tensor, weight_vd: Tensor) -> Tensor:
        """Logits over the input ids."""
        return F.linear(features_ntd, weight_vd, self.bias)


class Classifier(nn.Module):
    """Linear, ReLU, linear on the state of `[CLS]`: one logit for each label of a category."""

    def __init__(self, dim: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.transform, self.activation = nn.Linear(dim, dim), nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.projector = nn.Linear(dim, n_classes)

    def forward(self, hidden_nd: Tensor) -> Tensor:
        """Logits (cells, classes)."""
        features_nd = self.dropout(self.activation(self.transform(hidden_nd)))
        logits_nc: Tensor = self.projector(features_nd)
        return logits_nc
