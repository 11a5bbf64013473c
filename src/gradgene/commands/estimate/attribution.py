"""How long an attribution will take and how much memory, measured on a few of its own pairs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls

from gradgene.commands.run.memory import MB, peak_mb, resident_mb
from gradgene.commands.sweep.planned import Estimate
from gradgene.lit import PairBatches

__all__ = ["Pace", "measure_pace", "most_tokens"]

#: What a probe may take: so many seconds, or this share of the whole work where that is more.
PROBE_S, PROBE_SHARE = 0.5, 0.02
#: Bytes that a position of a pair takes in scores and sums, whatever the method (measured).
BYTES_A_POSITION = 260
#: What large batches, the trainer and control rankings hold that probes do not show (measured: 84
#: to 141 MB).
NOT_SEEN_MB = 100
#: Budgets that are tried; a processor is not faster with more than 8192, a GPU with more than the
#: most.
LEAST_TOKENS, MOST_TOKENS = 1024, {"cpu": 8192, "cuda": 65536}
#: The share of the free memory that a method may take.
FREE_SHARE = 0.8


@dataclass(frozen=True)
class Pace:
    """Cost of batches, fitted to probes.

    Attributes
    ----------
    weights
        Seconds for each of the `work_of` a batch.
    mb_a_position
        Memory that comes with every padded position of a batch.
    base_mb
        Memory before the work.
    """

    weights: np.ndarray
    mb_a_position: float
    base_mb: float

    def of(self, batches: PairBatches, world: int = 1) -> Estimate:
        """The estimate for all batches, shared by `world` processes; memory is that of one."""
        seconds = sum(float(work_of(batches, pairs) @ self.weights) for pairs in batches.batches)
        grown = self.grown_mb(batches)
        return Estimate(seconds / world, max(self.base_mb + grown, peak_mb()) + NOT_SEEN_MB)

    def grown_mb(self, batches: PairBatches) -> float:
        """Memory that comes with the largest of the batches."""
        largest = max(_memory_positions(batches, pairs) for pairs in batches.batches)
        pairwise = max(_positions(batches, pairs) for pairs in batches.batches)
        return largest * self.mb_a_position + pairwise * BYTES_A_POSITION / MB


def measure_pace(
    work: Callable[[np.ndarray], None], batches: PairBatches, device: str, state_mb: float = 0.0
) -> Pace:
    """Time `work` on a few pairs: of the shortest batch, the longest and one between.

    Parameters
    ----------
    work
        Does the whole work for the pairs at some positions of the plan.
    batches
        All the batches there are.
    device
        Where the work happens: "cpu" or "cuda".
    state_mb
        Memory that the work itself will hold beside what is there now.
    """
    by_length = np.argsort([batches.length_of(pairs) for pairs in batches.batches])
    longest, middle = (batches.batches[int(by_length[i])] for i in (-1, len(by_length) // 2))
    longest = longest[np.argsort(-batches.upper_p[longest], kind="stable")]
    shortest = np.array([np.argmin(batches.upper_p)])
    start_mb = _resident(device)
    with _watched(device) as small_mb:  # with what is needed once: caches, threads, kernels
        _timed(work, shortest)
    probes = [(longest[:1], _timed(work, longest[:1]))]
    some = longest[: _n_pairs(probes[0][1], len(batches.plan))]
    with _watched(device) as large_mb:
        probes.append((some, _timed(work, some)))
    probes.append((middle[:1], _timed(work, middle[:1])))
    small, large = _memory_positions(batches, shortest), _memory_positions(batches, some)
    if large > 2 * small:
        grown_mb = max(0.0, large_mb[0] - small_mb[0]) / (large - small)
    else:  # too alike to tell: all of it may be of the pairs
        grown_mb = max(0.0, large_mb[0] - start_mb) / large
    once_mb = max(0.0, small_mb[0] - start_mb - small * grown_mb)
    return Pace(_fitted(batches, probes), grown_mb, start_mb + once_mb + state_mb)


def most_tokens(pace: Pace, batches: PairBatches, device: str, free: float) -> int:
    """The largest power of two for `batch_tokens` whose batches are estimated to fit.

    Parameters
    ----------
    pace
        Of the method.
    batches
        The pairs in batches of any size.
    free
        MB of memory that are free on the device; a share of it is left alone.
    """
    tokens = MOST_TOKENS[device]
    while tokens > LEAST_TOKENS:
        made = PairBatches(batches.plan, batches.length_n, tokens, batches.per_cell)
        if pace.grown_mb(made) + NOT_SEEN_MB <= FREE_SHARE * free:
            break
        tokens //= 2
    return tokens


def _n_pairs(pair_s: float, n_planned: int) -> int:
    """Pairs of the probe that says what pairs share in a batch; few where each takes long."""
    budget_s = max(PROBE_S, PROBE_SHARE * pair_s * n_planned)
    return max(int(budget_s / pair_s), 3 if n_planned >= 100 else 1)


def work_of(batches: PairBatches, pairs: np.ndarray) -> np.ndarray:
    """What the time of a batch is linear in: its start, tokens, and tokens times length.

    Tokens are those of padded pairs; for methods that work per cell, those of distinct cells.
    """
    length = float(batches.length_of(pairs))
    n_tokens = float(_tokens(batches, pairs))
    third = float(_positions(batches, pairs)) if batches.per_cell else n_tokens * length / 1000
    return np.array([1.0, n_tokens, third])


def _positions(batches: PairBatches, pairs: np.ndarray) -> int:
    return len(pairs) * batches.length_of(pairs)


def _tokens(batches: PairBatches, pairs: np.ndarray) -> int:
    if not batches.per_cell:
        return _positions(batches, pairs)
    rows = np.concatenate([batches.plan.input_rows[pairs], batches.plan.baseline_rows[pairs]])
    return int(batches.length_n[np.unique(rows)].sum())


def _memory_positions(batches: PairBatches, pairs: np.ndarray) -> int:
    """Tokens in the model at a time."""
    n_tokens = _tokens(batches, pairs)
    return min(n_tokens, batches.batch_tokens) if batches.per_cell else n_tokens


def _fitted(batches: PairBatches, probes: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Weights >= 0 that explain the probes, the relative error of each counting alike."""
    rows = np.stack([work_of(batches, pairs) for pairs, _ in probes])
    seconds = np.array([s for _, s in probes])
    if all(len(pairs) == 1 for pairs, _ in probes):
        rows[:, 0] = 0  # pairs that were never together cannot tell what they would share
    scale = np.maximum(rows.max(axis=0), 1.0)
    weights, _ = nnls(rows / scale / seconds[:, None], np.ones(len(seconds)))
    return np.asarray(weights / scale)


def _timed(work: Callable[[np.ndarray], None], pairs: np.ndarray) -> float:
    started = time.perf_counter()
    work(pairs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _resident(device: str) -> float:
    return resident_mb() if device == "cpu" else torch.cuda.memory_allocated() / MB


@contextmanager
def _watched(device: str) -> Iterator[list[float]]:
    """A list whose only entry is, afterwards, the most memory (MB) that there was meanwhile."""
    seen = [_resident(device)]
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        yield seen
        seen[0] = torch.cuda.max_memory_allocated() / MB
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            seen[0] = max(seen[0], resident_mb())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
