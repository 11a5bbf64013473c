"""The scalar that is explained: what the model says at the masked target slot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from gradgene.attribution.rules import log_mean
from gradgene.errors import AttributionError, closest
from gradgene.tokens import Vocabulary

__all__ = ["BoundTarget", "Target", "TargetKind"]

TargetKind = Literal["margin", "logit", "log_probability", "probability"]
Labels = Literal["category", "all"]


@dataclass(frozen=True)
class Target:
    """f of spec 0 §7: a scalar of the logits z at the slot of `category`, for a fixed `label` u.

    Parameters
    ----------
    category
        The category that is masked and predicted.
    label
        u, the label explained; the same for both members of a pair.
    against
        v, the other label; needed by `kind="margin"` and by baselines explained for their own
        label.
    kind
        "margin" z_u - z_v, "logit" z_u, "log_probability" or "probability" of u.
    vocabulary
        Probabilities over the labels of the category, or over "all" input ids (reproduction).

    Raises
    ------
    AttributionError
        For a margin without `against`, a label against itself, or an unknown `kind` or
        `vocabulary`.
    """

    category: str
    label: str
    against: str | None = None
    kind: TargetKind = "margin"
    vocabulary: Labels = "category"

    def __post_init__(self) -> None:
        for name, valid in (("kind", TargetKind), ("vocabulary", Labels)):
            value = getattr(self, name)
            if value not in get_args(valid):
                raise AttributionError(
                    f"unknown {name} {value!r}",
                    where=f"target.{name}",
                    expected=f"one of {closest(str(value), get_args(valid))}",
                )
        if self.kind == "margin" and self.against is None:
            raise AttributionError("a margin needs the label it is against", where="target.against")
        if self.label == self.against:
            raise AttributionError("a label cannot be against itself", where="target.against")

    def mirrored(self) -> Target:
        """The same kind of scalar for the other label (z_v - z_u for a margin)."""
        if self.against is None:
            raise AttributionError("needs the other label", where="target.against")
        return replace(self, label=self.against, against=self.label)

    def bind(self, vocabulary: Vocabulary) -> BoundTarget:
        """Look the labels up; raises `TokenError` where the vocabulary lacks one."""
        ids = (
            range(vocabulary.n_values)
            if self.vocabulary == "all"
            else vocabulary.label_ids(self.category)
        )
        return BoundTarget(
            kind=self.kind,
            category=self.category,
            label_id=vocabulary.label_id(self.category, self.label),
            against_id=(
                vocabulary.label_id(self.category, self.against)
                if self.kind == "margin" and self.against is not None
                else None
            ),
            among=tuple(ids),
        )


@dataclass(frozen=True)
class BoundTarget:
    """A target with its labels resolved to input ids; `among` are the ids a softmax runs over."""

    kind: TargetKind
    category: str
    label_id: int
    against_id: int | None
    among: tuple[int, ...]

    def read(self, logits_pv: Tensor) -> Tensor:
        """f_p (pairs,) from logits at the slot."""
        if self.kind == "margin":
            return logits_pv[:, self.label_id] - logits_pv[:, self.against_id]
        if self.kind == "logit":
            return logits_pv[:, self.label_id]
        among = torch.as_tensor(self.among, device=logits_pv.device)
        log_p = logits_pv.index_select(1, among).log_softmax(dim=1)[:, self._place]
        return log_p if self.kind == "log_probability" else log_p.exp()

    def multipliers(self, logits_pv: Tensor, baseline_pv: Tensor) -> Tensor:
        """m_pv with Σ_v m (z_input - z_baseline) = f_input - f_baseline exactly.

        For probabilities the logarithmic-mean rule of spec 0 §3.
        """
        m_pv = torch.zeros_like(logits_pv)
        if self.kind in ("margin", "logit"):
            m_pv[:, self.label_id] = 1
            if self.kind == "margin":
                m_pv[:, self.against_id] = -1
            return m_pv
        among = torch.as_tensor(self.among, device=logits_pv.device)
        log_i = logits_pv.index_select(1, among).log_softmax(dim=1)
        log_b = baseline_pv.index_select(1, among).log_softmax(dim=1)
        ell = log_mean(log_i, log_b)
        share = ell / ell.sum(dim=1, keepdim=True)
        unit = torch.zeros_like(ell)
        unit[:, self._place] = 1
        if self.kind == "log_probability":
            m = unit - share
        else:
            m = ell[:, self._place, None] * (unit - share)
        return m_pv.index_copy(1, among, m)

    @property
    def _place(self) -> int:
        return self.among.index(self.label_id)
