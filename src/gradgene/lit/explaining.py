"""Explain what can be explained of a batch, and say which of its pairs cannot and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from gradgene.attribution import Attribution, NotFiniteError
from gradgene.pairs import BlendedBatch, blend

__all__ = ["Explained", "explain_possible", "reason"]

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
        Position in the batch given -> what was said of the pair alone.
    """

    batch: BlendedBatch | None
    attribution: Attribution | None
    kept: list[int]
    errors: dict[int, NotFiniteError]


def explain_possible(explain: Explain, batch: BlendedBatch, all_errors: bool) -> Explained:
    """Explain a batch; where scores are not finite, find the pairs and explain the others.

    Without `all_errors` the search ends at the first such pair, and nothing is explained.

    Raises
    ------
    AttributionError
        For what is wrong with all pairs alike, such as a model that the method has no rule for.
    """
    everyone = list(range(len(batch)))
    try:
        return Explained(batch, explain(batch), everyone, {})
    except NotFiniteError as error:
        found = _failing(explain, batch, everyone, error)
        errors = dict(found) if all_errors else dict(islice(found, 1))
        if not errors:  # each half alone is finite: no pair is to blame
            raise
        if not all_errors:
            return Explained(None, None, [], errors)
    kept = [i for i in everyone if i not in errors]
    if not kept:
        return Explained(None, None, [], errors)
    rest = _some(batch, kept)
    return Explained(rest, explain(rest), kept, errors)


def reason(error: NotFiniteError) -> str:
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
            explain(_some(batch, half))
        except NotFiniteError as smaller:
            yield from _failing(explain, batch, half, smaller)


def _some(batch: BlendedBatch, positions: list[int]) -> BlendedBatch:
    rows = torch.tensor(positions, device=batch.gene_ids_pt.device)
    return blend(batch.cells, batch.input_rows_p[rows], batch.baseline_rows_p[rows])
