"""How a study attributes: a method and what every method has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradgene.attribution.method import AttributionMethod
from gradgene.attribution.target import Target, TargetKind

__all__ = ["AttributionSettings"]


@dataclass(frozen=True)
class AttributionSettings:
    """One leaf of `conf/attribution/`.

    Parameters
    ----------
    method
        The method with its own parameters.
    target_kind, vocabulary
        The scalar explained; see `Target`.
    normalize
        "l2" divides each pair's scores by their norm over genes; `paper_*` importances always do.
    save
        "table" keeps per-gene sums only; "pairs" also writes every pair's scores.
    batch_tokens
        Padded tokens a batch of pairs, per member; for methods that work per cell those of the
        cells differentiated together, while a batch has many times as many pairs.
    """

    method: AttributionMethod
    target_kind: TargetKind = "margin"
    vocabulary: Literal["category", "all"] = "category"
    normalize: Literal["none", "l2"] = "none"
    save: Literal["table", "pairs"] = "table"
    batch_tokens: int = 8192

    def target(self, category: str, label: str, against: str) -> Target:
        """The scalar for a contrast of two labels."""
        return Target(category, label, against, self.target_kind, self.vocabulary)
