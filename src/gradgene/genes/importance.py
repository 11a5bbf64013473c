"""Ways to make one importance out of the forward and the backward scores of a pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.attribution import METHODS
from gradgene.errors import AttributionError, closest
from gradgene.pairs import BASELINES, EmptyBaseline

__all__ = ["IMPORTANCES", "Importance", "default_importance", "l2_normalise"]

Combine = Callable[[Tensor, Tensor], Tensor]


def l2_norm(scores_pt: Tensor, gene_ids_pt: Tensor) -> Tensor:
    """(pairs, 1) L2 norm of each pair's scores over gene tokens; 1 where all are zero."""
    norm_p1 = scores_pt.masked_fill(gene_ids_pt < 0, 0).norm(dim=1, keepdim=True)
    return torch.where(norm_p1 > 0, norm_p1, torch.ones_like(norm_p1))


def l2_normalise(scores_pt: Tensor, gene_ids_pt: Tensor) -> Tensor:
    """Divide each pair's scores by their L2 norm over gene tokens; all-zero pairs stay zero."""
    return scores_pt / l2_norm(scores_pt, gene_ids_pt)


def _geometric(forward: Tensor, backward: Tensor) -> Tensor:
    """√|F·R|, or the larger magnitude where one direction is exactly zero."""
    larger = torch.maximum(forward.abs(), backward.abs())
    either_zero = (forward == 0) | (backward == 0)
    return torch.where(either_zero, larger, (forward * backward).abs().sqrt())


def _half_sum(forward: Tensor, backward: Tensor) -> Tensor:
    return (forward + backward) / 2


def _half_difference(forward: Tensor, backward: Tensor) -> Tensor:
    return (forward - backward) / 2


#: Importance -> (combination under a baseline that swaps, combination under one that does not).
IMPORTANCES: dict[str, tuple[Combine | None, Combine | None]] = {
    "forward": (lambda f, r: f, lambda f, r: f),
    "backward": (lambda f, r: r, lambda f, r: r),
    "contrast": (_half_difference, None),
    "own_label": (_half_difference, _half_sum),
    "paper_mean": (_half_sum, None),
    "paper_geometric": (_geometric, None),
    "paper_empty": (None, _half_difference),
}


@dataclass(frozen=True)
class Importance:
    """One way to combine the directions, checked against method, baseline and target.

    With F the forward and R the backward scores (spec 0 §2): `forward` F, `backward` R,
    `contrast` (F-R)/2, `own_label` the mean of F and of R read for the baseline cell's own label,
    `paper_mean` (F+R)/2, `paper_geometric` √|F·R|, `paper_empty` (F-R)/2 under the empty
    baseline. The `paper_*` ones use scores divided by their L2 norm per pair and direction.
    Without a choice it is `default_importance`.

    Under a baseline that swaps, R explains the exchanged pair for the same label. Then `contrast`
    compares like with like, `own_label` is the same number (for a margin, whose two readings are
    each other's negative), and a symmetric method has R = -F, so that `paper_*` cancel to nothing
    or repeat |F|. Under one that does not swap, R explains the other cell for the other label:
    (F-R)/2 compares readings of two scalars, which `paper_empty` does only as the published
    definition for the empty baseline. Methods that need no baseline are asymmetric ones to these
    rules: F and R are of two cells whatever stands against them.

    Parameters
    ----------
    name
        One of `IMPORTANCES`.
    method, baseline, target_kind
        What the scores come from; they decide which importances mean something.

    Raises
    ------
    AttributionError
        For an unknown name or a meaningless combination, with the reason.
    """

    name: str
    method: str
    baseline: str = "cell_state"
    target_kind: str = "margin"

    def __post_init__(self) -> None:
        for value, known, where in (
            (self.method, METHODS, "attribution"),
            (self.baseline, BASELINES, "baseline"),
        ):
            if value not in known:
                raise AttributionError(
                    f"no {where} {value!r}",
                    where=where,
                    expected=f"one of {closest(value, known)}",
                )
        if self.name not in IMPORTANCES:
            raise AttributionError(
                f"no importance {self.name!r}",
                where="ranking.importance",
                expected=f"one of {closest(self.name, IMPORTANCES)}",
            )
        METHODS[self.method].require_baseline(BASELINES[self.baseline])
        reason = self._meaningless()
        if reason:
            raise AttributionError(
                f"importance {self.name!r} is meaningless here: {reason}",
                where="ranking.importance",
                fix=f"use {default_importance(self.method, self.baseline)!r}",
            )

    @classmethod
    def meaningful(cls, method: str, baseline: str, target_kind: str) -> tuple[Importance, ...]:
        """Every importance that means something for this combination."""
        made = []
        for name in IMPORTANCES:
            try:
                made.append(cls(name, method, baseline, target_kind))
            except AttributionError:
                continue  # asking is how the rules are found out; the reason is not needed here
        return tuple(made)

    @property
    def normalised(self) -> bool:
        """Whether the definition divides each direction by its L2 norm."""
        return self.name.startswith("paper_")

    def combine(self, forward_pt: Tensor, backward_pt: Tensor) -> Tensor:
        """Importance of each token (pairs, positions) from the scores of both directions."""
        combination = IMPORTANCES[self.name][0 if self._swaps else 1]
        assert combination is not None  # checked in __post_init__
        return combination(forward_pt, backward_pt)

    @property
    def reads_baseline_cells(self) -> bool:
        """Whether scores depend on the baseline cells: otherwise they rest on input cells alone."""
        return self._swaps or self.name != "forward"

    @property
    def exchanges(self) -> bool:
        """Whether the scores of both directions tell those with the labels of a pair exchanged."""
        return self._swaps or self.target_kind == "margin"

    def exchanged(self, forward_pt: Tensor, backward_pt: Tensor) -> Tensor | None:
        """The importance each token would have were the labels of the pair's cells exchanged.

        Under a baseline that swaps, the other cell becomes the input: F and R change places, so
        that `contrast` and `own_label` turn into their negatives, `forward` into R (-F under a
        symmetric method). Under one that does not, R is of the other cell for the other label,
        and a margin read for the first label is its negative: F and R become -R and -F. Any other
        scalar was not computed for the exchanged labels: None. `paper_mean`, `paper_geometric`
        and `paper_empty` are left as they are by the exchange, so it tests nothing of them.
        """
        if self._swaps:
            return self.combine(backward_pt, forward_pt)
        if self.target_kind == "margin":
            return self.combine(-backward_pt, -forward_pt)
        return None

    @property
    def _swaps(self) -> bool:
        return BASELINES[self.baseline].swaps

    def _meaningless(self) -> str | None:
        method = METHODS[self.method]
        if self.name == "paper_empty" and self.baseline != EmptyBaseline.name:
            return "it is defined only for the empty baseline"
        if IMPORTANCES[self.name][0 if self._swaps else 1] is None:
            return "it is defined only for a baseline that swaps with its input"
        if self.normalised and self._swaps and method.symmetric:
            complete = "complete and symmetric" if method.complete else "symmetric, not complete"
            return (
                f"{self.method} is {complete}, so the backward scores are exactly the "
                "negated forward scores and their combination cancels to zero or repeats |forward|"
            )
        if self.name == "own_label" and self._swaps and self.target_kind != "margin":
            return "with a swapping baseline both labels are read only by target_kind=margin"
        return None


def default_importance(method: str, baseline: str = "cell_state") -> str:
    """`own_label` if the baseline does not swap, else `forward` if symmetric, else `contrast`.

    Where each cell is explained against itself, `forward` reads the input cells alone: a gene that
    is telling by being low there has a negative score and comes last, though the baseline cells
    name it. On planted cells (development seeds) `forward` finds half of such genes and `own_label`
    all; see `experiments/04_planted_truth`.

    Names that are not registered, as in a run of another version, count as asymmetric and
    swapping.
    """
    if baseline in BASELINES and not BASELINES[baseline].swaps:
        return "own_label"
    return "forward" if method in METHODS and METHODS[method].symmetric else "contrast"
