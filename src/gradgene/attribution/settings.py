"""How a study attributes: a method and what every method has in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gradgene.attribution.method import AttributionMethod
from gradgene.attribution.target import Target, TargetKind
from gradgene.errors import AttributionError

__all__ = ["AttributionSettings"]

Save = Literal["table", "pairs"]


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
        cells differentiated together, while a batch has many times as many pairs. "auto" takes as
        many as the memory that is free is estimated to hold. What does not fit after all is done in
        halves.
    on_error
        What to do with a pair whose scores are NaN or infinite: "stop", or "skip" to leave it out
        and list it.
    keep_every_s
        Seconds after which what was done is kept, for the same command to go on there if it is
        broken off; 0 keeps every batch.

    Raises
    ------
    AttributionError
        If a batch may hold no token, or the seconds are negative.
    """

    method: AttributionMethod
    target_kind: TargetKind = "margin"
    vocabulary: Literal["category", "all"] = "category"
    normalize: Literal["none", "l2"] = "none"
    save: Save = "table"
    batch_tokens: int | Literal["auto"] = 8192
    on_error: Literal["stop", "skip"] = "stop"
    keep_every_s: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (("batch_tokens", 1), ("keep_every_s", 0)):
            value = getattr(self, name)
            if value != "auto" and not value >= least:
                raise AttributionError(
                    "is too small",
                    where=f"attribution.{name}",
                    expected=f"at least {least}",
                    found=str(value),
                )

    def deciding(self, save: Save | None = None) -> str:
        """What decides the scores, as text: how often progress is kept does not.

        `save` stands for what is written where that plays no part either.
        """
        return str(replace(self, keep_every_s=0.0, save=save or self.save))

    def target(self, category: str, label: str, against: str) -> Target:
        """The scalar for a contrast of two labels."""
        return Target(category, label, against, self.target_kind, self.vocabulary)
