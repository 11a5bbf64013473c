"""Estimates of time and memory: right where cost is what they suppose, and cheap to make."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import numpy as np
import pandas as pd
import pytest

from gradgene.commands.estimate import attribution as estimate
from gradgene.commands.estimate.attribution import (
    Pace,
    measure_pace,
    most_tokens,
    work_of,
)
from gradgene.commands.run.memory import MB
from gradgene.commands.sweep.planned import Estimate
from gradgene.lit import PairBatches
from gradgene.pairs import PairPlan


def plan(n: int, per_input: int = 1) -> PairPlan:
    """Pairs of input cells 0 … with controls behind them, shared where there are several."""
    inputs = np.repeat(np.arange(n // per_input), per_input)
    table = pd.DataFrame(
        {
            "pair": np.arange(len(inputs)),
            "input": inputs.astype(str),
            "baseline": "b",
            "input_row": inputs,
            "baseline_row": len(inputs) + np.arange(len(inputs)) % 7,
            "stratum": "all",
        }
    )
    return PairPlan(table, pd.DataFrame({"stratum": [], "n_cells": [], "reason": []}))


def batches(n: int = 200, *, per_cell: bool = False, per_input: int = 1) -> PairBatches:
    """Batches of cells of 50 to 500 tokens."""
    made = plan(n, per_input)
    lengths = np.random.default_rng(0).integers(50, 500, 2 * n)
    return PairBatches(made, lengths, 40 if per_cell else 4000, per_cell)


@pytest.mark.parametrize("per_cell", [False, True])
@pytest.mark.parametrize("costs", [(0.01, 1e-5, 0), (0.0, 1e-6, 1e-5), (0.02, 0, 1e-5)])
def test_costs_of_the_supposed_form_are_found(
    per_cell: bool, costs: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batches(per_cell=per_cell, per_input=5 if per_cell else 1)
    probed: list[int] = []

    def timed(work: object, pairs: np.ndarray) -> float:
        probed.append(len(pairs))
        return float(work_of(made, pairs) @ np.array(costs))

    monkeypatch.setattr(estimate, "_timed", timed)
    found = measure_pace(lambda pairs: None, made, "cpu").of(made)
    truth = sum(float(work_of(made, pairs) @ np.array(costs)) for pairs in made.batches)
    assert found.seconds == pytest.approx(truth, rel=0.05)
    halved = measure_pace(lambda pairs: None, made, "cpu").of(made, world=2)
    assert halved.seconds == pytest.approx(found.seconds / 2)


def test_probes_of_slow_work_are_single_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = batches()
    probed: list[int] = []

    def timed(work: object, pairs: np.ndarray) -> float:
        probed.append(len(pairs))
        return 5.0 * len(pairs)

    monkeypatch.setattr(estimate, "_timed", timed)
    made.plan = plan(49)
    pace = measure_pace(lambda pairs: None, made, "cpu")
    assert probed == [1, 1, 1, 1]
    assert pace.weights[0] == 0  # single pairs do not say that a batch costs no more than they


def test_memory_that_grows_with_a_batch_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 MB before, 40 MB that are needed once, 20 kB a position."""
    made, held = batches(), [0]

    def work(pairs: np.ndarray) -> None:
        held[0] = len(pairs) * made.length_of(pairs)
        time.sleep(1e-4)

    @contextmanager
    def watched(device: str) -> Iterator[list[float]]:
        seen = [300.0]
        yield seen
        seen[0] = 340.0 + 0.02 * held[0]

    monkeypatch.setattr(estimate, "_watched", watched)
    monkeypatch.setattr(estimate, "_resident", lambda device: 300.0)
    monkeypatch.setattr(estimate, "peak_mb", lambda: 310.0)
    found = measure_pace(work, made, "cpu")
    assert found.mb_a_position == pytest.approx(0.02)
    assert found.base_mb == pytest.approx(340.0)
    largest = max(len(pairs) * made.length_of(pairs) for pairs in made.batches)
    scores_mb = largest * estimate.BYTES_A_POSITION / MB
    expected = 340 + 0.02 * largest + scores_mb + estimate.NOT_SEEN_MB
    assert found.of(made).peak_mb == pytest.approx(expected)
    assert measure_pace(work, made, "cpu", 10_000.0).base_mb == pytest.approx(10_340.0)


def test_the_most_memory_meanwhile_is_what_was_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rises to 250 MB and falls again, read by another thread."""
    readings, over = iter([100.0, 180.0, 250.0]), Event()

    def resident() -> float:
        value = next(readings, None)
        if value is None:
            over.set()
        return 120.0 if value is None else value

    monkeypatch.setattr(estimate, "resident_mb", resident)
    with estimate._watched("cpu") as seen:
        assert over.wait(60)
    assert seen == [250.0]


@pytest.mark.parametrize(
    ("seconds", "mb", "said"),
    [
        (0.2, 300.4, "about 1 s, 300 MB"),
        (42.4, 999, "about 42 s, 999 MB"),
        (185, 1229, "about 3 min, 1.2 GB"),
        (3 * 3600 - 60, 40_000, "about 3.0 h, 39.1 GB"),
    ],
)
def test_it_is_said_as_people_do(seconds: float, mb: float, said: str) -> None:
    assert str(Estimate(seconds, mb)) == said


@pytest.mark.parametrize("per_cell", [False, True])
def test_tokens_that_memory_holds(per_cell: bool) -> None:
    """The largest power of two whose batches fit into the share of what is free."""
    made = batches(n=5000, per_cell=per_cell)
    pace = Pace(np.zeros(3), 0.1, 300.0)

    def grown_mb(tokens: int) -> float:
        return pace.grown_mb(PairBatches(made.plan, made.length_n, tokens, per_cell))

    assert 0.09 * 16384 < grown_mb(16384) < 0.1 * 16384 + (1100 if per_cell else 5)
    free = (grown_mb(16384) + estimate.NOT_SEEN_MB) / estimate.FREE_SHARE
    assert most_tokens(pace, made, "cuda", 1.001 * free) == 16384
    assert most_tokens(pace, made, "cuda", 0.999 * free) == 8192
    assert most_tokens(pace, made, "cuda", 10 * free) == 65536
    assert most_tokens(pace, made, "cpu", 10 * free) == 8192, "more is no faster there"
    assert most_tokens(pace, made, "cuda", 0.0) == 1024
