"""Explain what can be explained of a batch, and say which of its pairs cannot and why.

A batch that does not fit in memory is explained in halves, whose results are joined as if it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from gradgene.attribution import Attribution, DirectionScores, NotFiniteError
from gradgene.errors import GradgeneError
from gradgene.halving import TokenLimit, TooLargeError, in_halves
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import padded

__all__ = ["Explained", "explain_fitting", "explain_possible", "reason"]

Explain = Callable[[BlendedBatch], Attribution]


@dataclass(frozen=True)
class Explained:
    """Scores of some pairs of a batch, and what was wrong with the others.

    Attributes
    ----------
    batch
        The pairs that have scores; None where none has.
    attribution
        Their scores, in that order.
    kept
        Their positions in the batch given.
    errors
        Position in the batch given -> what was said of the pair alone: `NotFiniteError`, or
        `TooLargeError` for one that does not fit in memory.
    """

    batch: BlendedBatch | None
    attribution: Attribution | None
    kept: list[int]
    errors: dict[int, GradgeneError]

    @property
    def too_large(self) -> bool:
        """Whether a pair does not fit in memory, which no setting leaves out."""
        return any(isinstance(error, TooLargeError) for error in self.errors.values())


def explain_possible(explain: Explain, batch: BlendedBatch, all_errors: bool) -> Explained:
    """Explain a batch; where scores are not finite, find the pairs and explain the others.

    Without `all_errors` the search ends at the first such pair, and nothing is explained; nor where
    a pair does not fit in memory.

    Raises
    ------
    AttributionError
        For what is wrong with all pairs alike, such as a model that the method has no rule for.
    """
    try:
        return _possible(explain, batch, all_errors)
    except TooLargeError as error:
        return Explained(None, None, [], {error.row: error})


def _possible(explain: Explain, batch: BlendedBatch, all_errors: bool) -> Explained:
    everyone = list(range(len(batch)))
    try:
        return Explained(batch, explain(batch), everyone, {})
    except NotFiniteError as error:
        found = _failing(explain, batch, everyone, error)
        errors: dict[int, GradgeneError] = {}
        errors |= dict(found) if all_errors else dict(islice(found, 1))
        if not errors:  # each half alone is finite: no pair is to blame
            raise
        if not all_errors:
            return Explained(None, None, [], errors)
    kept = [i for i in everyone if i not in errors]
    if not kept:
        return Explained(None, None, [], errors)
    return Explained(_some(batch, kept), _explained(explain, batch, kept), kept, errors)


def explain_fitting(explain: Explain, batch: BlendedBatch, limit: TokenLimit) -> Attribution:
    """Explain a batch, in as few pieces as fit in memory; see `in_halves`.

    Raises
    ------
    TooLargeError
        If a single pair does not fit; its `row` is the position in the batch.
    """
    used_pt = batch.input.attention_mask_nt | batch.baseline.attention_mask_nt
    n_tokens_p = used_pt.sum(dim=1)

    def some(rows: Tensor) -> Attribution:
        return explain(batch if len(rows) == len(batch) else _some(batch, rows.tolist()))

    parts = in_halves(
        some,
        torch.arange(len(batch)),
        lambda rows: padded(n_tokens_p[rows.to(n_tokens_p.device)]),
        limit,
    )
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Attribution]) -> Attribution:
    """The pairs of all parts on as many positions as the longest has."""
    length = max(part.gene_ids_pt.shape[1] for part in parts)

    def all_of(tensors: list[Tensor], filling: int = 0) -> Tensor:
        return torch.cat(
            [x if x.ndim == 1 else pad(x, (0, length - x.shape[1]), value=filling) for x in tensors]
        )

    def both(scores: list[DirectionScores]) -> DirectionScores:
        tensors: dict[str, Any] = {}
        for name, first in vars(scores[0]).items():
            tensors[name] = None if first is None else all_of([vars(one)[name] for one in scores])
        return DirectionScores(**tensors)

    return replace(
        parts[0],
        forward=both([part.forward for part in parts]),
        backward=both([part.backward for part in parts]),
        gene_ids_pt=all_of([part.gene_ids_pt for part in parts], filling=-1),
    )


def reason(error: GradgeneError) -> str:
    """What was wrong with a pair alone, without how many pairs there were."""
    return error.what.rpartition(" in ")[0]


def _failing(
    explain: Explain, batch: BlendedBatch, positions: list[int], error: NotFiniteError
) -> Iterator[tuple[int, NotFiniteError]]:
    """The pairs at fault among `positions`, which together gave `error`, found by halving."""
    if len(positions) == 1:
        yield positions[0], error
        return
    middle = len(positions) // 2
    for half in (positions[:middle], positions[middle:]):
        try:
            _explained(explain, batch, half)
        except NotFiniteError as smaller:
            yield from _failing(explain, batch, half, smaller)


def _explained(explain: Explain, batch: BlendedBatch, positions: list[int]) -> Attribution:
    try:
        return explain(_some(batch, positions))
    except TooLargeError as error:
        raise TooLargeError(str(error.where), positions[error.row], error.n_tokens) from error


def _some(batch: BlendedBatch, positions: list[int]) -> BlendedBatch:
    rows = torch.tensor(positions, device=batch.gene_ids_pt.device)
    return blend(batch.cells, batch.input_rows_p[rows], batch.baseline_rows_p[rows])
