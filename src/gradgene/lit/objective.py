"""What training minimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradgene.errors import ConfigError

__all__ = ["MaskedTarget"]


@dataclass(frozen=True)
class MaskedTarget:
    """Cross-entropy over the labels of the target category.

    Parameters
    ----------
    label_smoothing
        Share of probability spread over all labels of the category.
    class_weights
        "none": every cell weighs the same. "balanced": every label does, whatever its number of
        training cells; the loss on validation cells has the same weights.

    Raises
    ------
    ConfigError
        For a smoothing outside [0, 1).
    """

    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                "is not a share",
                where="objective.label_smoothing",
                expected="in [0, 1)",
                found=str(self.label_smoothing),
            )
        if self.class_weights not in ("none", "balanced"):
            raise ConfigError(
                f"unknown weights {self.class_weights!r}",
                where="objective.class_weights",
                expected="'none' or 'balanced'",
            )

    def weights(self, n_cells_c: Sequence[int]) -> Tensor | None:
        """Weight (labels,) of a cell of each label, from the numbers of training cells.

        Balanced weights are n / (k n_c) over the k labels that occur, so that an average training
        cell weighs 1; a label without training cells weighs 1 as well. None for equal weights.
        """
        if self.class_weights == "none":
            return None
        n_c = torch.tensor(n_cells_c, dtype=torch.float32)
        weights_c = n_c.sum() / ((n_c > 0).sum() * n_c.clamp(min=1))
        return torch.where(n_c > 0, weights_c, 1.0)

    def loss(self, logits_nc: Tensor, labels_n: Tensor, weights_c: Tensor | None = None) -> Tensor:
        """Mean loss of `logits_nc` (cells, labels) against label indices, weighted by label."""
        return torch.nn.functional.cross_entropy(
            logits_nc, labels_n, weight=weights_c, label_smoothing=self.label_smoothing
        )
