"""What every attribution method takes, gives and promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from gradgene.attribution.members import Layer
from gradgene.attribution.target import BoundTarget, Target
from gradgene.errors import AttributionError, closest
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BaselineStrategy, BlendedBatch, CellStateBaseline, Pass
from gradgene.tokens import mask_category

__all__ = [
    "Attribution",
    "AttributionMethod",
    "DirectionScores",
    "EmbeddingMethod",
    "NotFiniteError",
    "require_positive",
]

#: The denominator of the relative delta never falls below this share of Σ|score| (spec 0 §3).
DELTA_FLOOR = 0.01


class NotFiniteError(AttributionError):
    """Scores of some pairs, or f, are NaN or infinite; the other pairs may be sound."""


@dataclass(frozen=True)
class DirectionScores:
    """Scores of one direction: the explained member against its baseline.

    Attributes
    ----------
    scores_pt
        (pairs, positions) signed contribution of each token to f_input - f_baseline, in the
        units of f; embedding plus presence.
    embedding_pt, presence_pt
        The two parts; `presence_pt` is None for methods that do not see presence.
    f_input_p, f_baseline_p
        (pairs,) the explained scalar of each member with its own attention mask.
    """

    scores_pt: Tensor
    embedding_pt: Tensor
    presence_pt: Tensor | None
    f_input_p: Tensor
    f_baseline_p: Tensor

    def __post_init__(self) -> None:
        if self.scores_pt.shape != self.embedding_pt.shape or self.f_input_p.ndim != 1:
            raise AttributionError("scores, parts and scalars differ in shape")

    @classmethod
    def of_parts(
        cls,
        embedding_pt: Tensor,
        presence_pt: Tensor | None,
        f_input_p: Tensor,
        f_baseline_p: Tensor,
    ) -> DirectionScores:
        """Scores that are the sum of these parts."""
        return cls(
            scores_pt=embedding_pt if presence_pt is None else embedding_pt + presence_pt,
            embedding_pt=embedding_pt,
            presence_pt=presence_pt,
            f_input_p=f_input_p,
            f_baseline_p=f_baseline_p,
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> DirectionScores:
        """Every tensor changed alike."""
        changed: dict[str, Any] = {
            name: None if x is None else change(x) for name, x in vars(self).items()
        }
        return DirectionScores(**changed)

    @property
    def is_finite_p(self) -> Tensor:
        """(pairs,) bool: neither a score nor f is NaN or infinite."""
        read_p = self.f_input_p + self.f_baseline_p
        return torch.isfinite(self.scores_pt).all(dim=1) & torch.isfinite(read_p)

    @property
    def broken(self) -> list[str]:
        """Parts that are NaN or infinite anywhere: embedding or presence scores, values of f."""
        parts = {
            "embedding scores": [self.embedding_pt],
            "presence scores": [] if self.presence_pt is None else [self.presence_pt],
            "values of f": [self.f_input_p, self.f_baseline_p],
        }
        return [
            name
            for name, tensors in parts.items()
            if not all(bool(torch.isfinite(x).all()) for x in tensors)
        ]

    @property
    def delta_p(self) -> Tensor:
        """(pairs,) what the scores leave unexplained: f_input - f_baseline - Σ scores."""
        return self.f_input_p - self.f_baseline_p - self.scores_pt.sum(dim=1)

    @property
    def relative_delta_p(self) -> Tensor:
        """(pairs,) |delta| / max(|f_input - f_baseline|, 0.01 Σ|score|); 0 where both are 0."""
        floor_p = DELTA_FLOOR * self.scores_pt.abs().sum(dim=1)
        scale_p = torch.maximum((self.f_input_p - self.f_baseline_p).abs(), floor_p)
        return self.delta_p.abs() / torch.where(scale_p > 0, scale_p, torch.ones_like(scale_p))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DirectionScores:
        """The same scores on another device."""
        return self.mapped(lambda x: x.to(device, non_blocking=non_blocking))

    def widened(self) -> DirectionScores:
        """Scores of half-precision weights in float32, which tables can hold; others unchanged."""
        if self.scores_pt.dtype in (torch.float32, torch.float64):
            return self
        return self.mapped(Tensor.float)

    def negated(self) -> DirectionScores:
        """The scores of the swapped pair under a symmetric, complete method."""
        negated = self.mapped(torch.neg)
        return replace(negated, f_input_p=self.f_baseline_p, f_baseline_p=self.f_input_p)


@dataclass(frozen=True)
class Attribution:
    """Both directions of a batch of pairs on common positions.

    Attributes
    ----------
    forward, backward
        Scores of the forward and of the backward pass.
    gene_ids_pt
        (pairs, positions) int64 gene index; -1 elsewhere.
    n_header
        Positions 1 … n_header - 1 are the phenotype tokens.
    method, baseline
        Names of the method and of the baseline strategy.
    """

    forward: DirectionScores
    backward: DirectionScores
    gene_ids_pt: Tensor
    n_header: int
    method: str
    baseline: str

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Attribution:
        """The same attribution on another device; Lightning calls it on what predict returns."""
        return replace(
            self,
            forward=self.forward.to(device, non_blocking),
            backward=self.backward.to(device, non_blocking),
            gene_ids_pt=self.gene_ids_pt.to(device, non_blocking=non_blocking),
        )

    def __post_init__(self) -> None:
        shape = self.gene_ids_pt.shape
        for name in ("forward", "backward"):
            scores: DirectionScores = getattr(self, name)
            scores_pt = scores.scores_pt
            if scores_pt.shape != shape:
                raise AttributionError(
                    f"{name} scores and gene ids differ in shape",
                    expected=str(tuple(shape)),
                    found=str(tuple(scores_pt.shape)),
                )
            bad_p = ~scores.is_finite_p
            if bool(bad_p.any()):
                what = " and ".join(scores.broken or ["scores"])
                raise NotFiniteError(
                    f"{name} {what} are NaN or infinite in {int(bad_p.sum())} of "
                    f"{len(bad_p)} pairs",
                    where=f"attribution.method={self.method}",
                    found=f"first at pair {int(bad_p.nonzero()[0])} of the batch",
                    fix="check the checkpoint for NaN weights; try trainer.precision=32-true",
                )


@dataclass(frozen=True)
class AttributionMethod(ABC):
    """One way to share f_input - f_baseline among tokens.

    Subclasses say what they promise: `complete` (scores sum to f_input - f_baseline),
    `symmetric` (exchanging the members negates every score), `needs_baseline` (the scores depend
    on the baseline) and `sees_presence` (the appearance of a token is scored as such, in
    `presence_pt`). Which importances make sense follows from these. `per_cell` methods do the work
    of the model once a distinct cell of a batch, so that many pairs of few cells cost little.
    `needs_tokens` methods cannot explain against embeddings that no token has (`baseline=zero`).
    `tolerance` is the relative delta below which 99 % of pairs of a complete method stay in float32
    with its own defaults; reports judge by it.
    """

    name: ClassVar[str]
    complete: ClassVar[bool]
    symmetric: ClassVar[bool]
    needs_baseline: ClassVar[bool]
    sees_presence: ClassVar[bool]
    per_cell: ClassVar[bool] = False
    needs_tokens: ClassVar[bool] = False
    tolerance: ClassVar[float] = 1e-4

    @property
    def is_complete(self) -> bool:
        """Whether the scores add up with these parameters."""
        return self.complete

    def holding(self, n_tokens: int) -> AttributionMethod:
        """This method with so many tokens in the model at a time, where its settings do not say.

        Only of methods that work `per_cell` is that not the size of the batches given.
        """
        return self

    def attribute(
        self,
        model: PhenotypeGeneTransformer,
        blended: BlendedBatch,
        target: Target,
        baseline: BaselineStrategy | None = None,
    ) -> Attribution:
        """Score every token of every pair in both directions.

        Parameters
        ----------
        model
            Borrowed: afterwards its weights, flags and hooks are as before.
        blended
            Pairs on the device of the model; the target category is masked here.
        target
            The scalar explained.
        baseline
            Cell-state (default), or another of `BASELINES`.

        Raises
        ------
        AttributionError
            If scores are not finite, the method or the target does not fit the model, or its
            weights were made in inference mode.
        """
        _check_reading(model, target)
        _check_weights(model)
        baseline = baseline or CellStateBaseline()
        self.require_baseline(type(baseline))
        device = next(model.parameters()).device.type
        # In the weights' own precision: differences of bfloat16 activations explain nothing.
        with explaining(model), torch.autocast(device, enabled=False):
            # Inside, so that callers under no_grad or inference mode get gradients too; what was
            # made in inference mode, as all that Lightning predicts from, cannot be saved for them.
            if blended.gene_ids_pt.is_inference() or blended.cells.input_ids_nt.is_inference():
                blended = blended.clone()
            masked, _ = mask_category(blended.cells, model.vocabulary, target.category)
            passes = baseline.passes(blended.with_cells(masked))
            forward, backward = self._both_ways(model, passes, target, baseline.swaps)
        return Attribution(
            forward=forward.widened(),
            backward=backward.widened(),
            gene_ids_pt=blended.gene_ids_pt,
            # A [START] token behind the phenotypes is the same in both members: nobody's evidence.
            n_header=1 + len(model.vocabulary.phenotypes),
            method=self.name,
            baseline=baseline.name,
        )

    @classmethod
    def require_baseline(cls, baseline: type[BaselineStrategy]) -> None:
        """Raise `AttributionError` for a baseline that this method cannot be told of."""
        if cls.needs_tokens and not baseline.has_tokens:
            raise AttributionError(
                f"{cls.name} embeds the baseline's tokens itself, and under "
                f"baseline={baseline.name} embeddings are none of tokens",
                where="baseline",
                fix="choose another baseline, or another method for this one",
            )

    def _both_ways(
        self,
        model: PhenotypeGeneTransformer,
        passes: tuple[Pass, Pass],
        target: Target,
        swaps: bool,
    ) -> tuple[DirectionScores, DirectionScores]:
        """Forward and backward scores; a method whose passes share work overrides this."""
        bound = target.bind(model.vocabulary)
        forward = self.one_way(model, passes[0].blended, bound)
        if self.symmetric and swaps:
            return forward, forward.negated()
        if passes[1].mirrored:
            bound = target.mirrored().bind(model.vocabulary)
        return forward, self.one_way(model, passes[1].blended, bound)

    @abstractmethod
    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked.

        Called with the model in evaluation mode, parameters frozen and gradients on.
        """


@dataclass(frozen=True)
class EmbeddingMethod(AttributionMethod):
    """A method that scores embeddings, all of them or one of their two parts.

    Parameters
    ----------
    layer
        "total" (default): the normalised sum. "value" or "identity": the share of the expression
        bin or of the gene's own embedding; a complete method's two shares and its presence add up,
        one share alone does not.
    """

    layer: Layer = "total"

    def __post_init__(self) -> None:
        if self.layer not in get_args(Layer):
            raise AttributionError(
                f"unknown layer {self.layer!r}",
                where="attribution.method.layer",
                expected=f"one of {closest(str(self.layer), get_args(Layer))}",
            )

    @property
    def is_complete(self) -> bool:
        """Whether the scores add up with these parameters: those of one part do not."""
        return self.complete and self.layer == "total"


def require_positive(name: str, value: int) -> None:
    """Raise `AttributionError` unless the parameter `name` of a method is at least 1."""
    if value < 1:
        raise AttributionError(
            "is too small",
            where=f"attribution.method.{name}",
            expected="a positive number",
            found=str(value),
        )


def _check_weights(model: PhenotypeGeneTransformer) -> None:
    if any(weight.is_inference() for weight in model.parameters()):
        raise AttributionError(
            "the model's weights are inference tensors, through which no gradient can pass",
            where="model",
            fix="load or build the model outside torch.inference_mode()",
        )


def _check_reading(model: PhenotypeGeneTransformer, target: Target) -> None:
    if target.vocabulary == "all" and target.category == model.classified:
        raise AttributionError(
            f"the model reads {target.category!r} with a classifier over its labels only",
            where="attribution.vocabulary",
            fix="choose attribution.vocabulary=category",
        )
