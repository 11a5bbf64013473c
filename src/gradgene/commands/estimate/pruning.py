"""How long a pruning will take and how much memory, measured on a few pieces of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradgene.commands.estimate.attribution import NOT_SEEN_MB
from gradgene.commands.run.memory import MB, peak_mb
from gradgene.commands.sweep.planned import Estimate
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import Judged, PruningSettings, prune, random_rankings

__all__ = ["measure_pruning"]

#: Cells of the trial, at most, and how long it may take before it stops at the next piece.
CELLS, TRIAL_S = 64, 2.0
#: Bytes of a cell at a point of a curve: its cut, the sorting of equal ones, the labels' shares
#: (reckoned for ten labels).
BYTES_A_CUT = 150


class _EnoughError(Exception):
    """The trial has seen what it needs."""


@dataclass
class _Pieces:
    """Serves pieces from all over the work until time is up."""

    n: int = 0
    done: int = 0
    started: float = 0.0
    spent_s: float = 0.0

    def __call__(self, pieces: Sequence[Any]) -> Iterator[Any]:
        self.n, self.started = len(pieces), time.perf_counter()
        # The first are the longest cells' and the last the shortest's: take them from all over.
        for at in np.random.default_rng(0).permutation(self.n):
            yield pieces[at]
            self.done += 1
            self.spent_s = time.perf_counter() - self.started
            if self.spent_s > TRIAL_S:
                raise _EnoughError
        raise _EnoughError  # what would follow is of all cells together


def measure_pruning(
    model: PhenotypeGeneTransformer, judged: Judged, settings: PruningSettings, n_rankings: int
) -> Estimate:
    """Prune some of the cells by as many random rankings and time what it gets done.

    Random orders cost what others do. What comes before and after, control rankings and curves,
    is not in it.

    Parameters
    ----------
    model
        Of the size and on the device of the one to be pruned, in evaluation mode.
    judged
        All cells that it will be judged on.
    n_rankings
        How many rankings and draws there will be.
    """
    n = len(judged.tokens)
    some = np.unique(np.linspace(0, n - 1, min(n, CELLS)).astype(np.int64))
    fewer = replace(
        judged,
        tokens=judged.tokens.take(torch.from_numpy(some)),
        truth_n=judged.truth_n[some],
        donors_n=None,
    )
    rankings = random_rankings(model.vocabulary.genes, n_rankings, seed=0)
    pieces, started = _Pieces(), time.perf_counter()
    try:
        prune(model, fewer, rankings, settings, pieces)
    except _EnoughError:
        before_s = pieces.started - started
        of_trial = before_s + pieces.spent_s / max(pieces.done, 1) * pieces.n
        n_cuts = n * n_rankings * len(settings.points)
        held_mb = peak_mb() + n_cuts * BYTES_A_CUT / MB + NOT_SEEN_MB
        return Estimate(of_trial * n / len(some), held_mb)
    return Estimate(0.0, peak_mb())  # there was nothing to do
