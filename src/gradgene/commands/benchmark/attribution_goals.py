"""The speeds that the project asks of its methods: ratios of what followed closely in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from gradgene.commands.benchmark.attribution_case import TARGET, Case
from gradgene.commands.benchmark.attribution_methods import (
    GRADIENT,
    MethodRun,
    benchmarked,
    seconds_of,
)
from gradgene.commands.benchmark.figures import Figure
from gradgene.models import PhenotypeGeneTransformer

__all__ = ["crossed_figures", "ratio_figures", "time_crossed"]

#: Turns of `time_crossed`.
MANY, ONE, BARE, CAPTUM = "every baseline", "one baseline an input", "joins", "captum_deeplift"


def time_crossed(
    case: Case, inputs: int, captum_pairs: int, turns: int, device: str, console: Console
) -> pd.DataFrame:
    """`turn, what, n_pairs, seconds` of `grad_x_delta` on crossed pairs and of Captum on a few.

    In each turn follow: all pairs at once; each input with one baseline, where the cells are the
    same; all pairs through a model of the same width without layers, which leaves the joins and
    little else; and Captum's DeepLIFT, pair by pair.
    """
    per_input = len(case) // inputs
    one = replace(
        case,
        input_rows=case.input_rows[::per_input],
        baseline_rows=case.baseline_rows[::per_input],
    )
    bare = PhenotypeGeneTransformer(case.model.vocabulary, **{**case.model.size, "n_layers": 0})
    ours, captum = (benchmarked(name, 1) for name in ("grad_x_delta", "captum_deeplift"))
    arms: dict[str, tuple[Case, Any]] = {
        MANY: (case, ours),
        ONE: (one, ours),
        BARE: (replace(case, model=bare.to(device).eval()), ours),
        CAPTUM: (case.first(captum_pairs), captum),
    }
    rows = []
    for turn in range(turns):
        for what, (some, method) in arms.items():
            with console.status(f"{len(case):,} crossed pairs, turn {turn + 1}: {what}"):
                seconds, _ = seconds_of(_work(method, some), device)
            rows.append({"turn": turn, "what": what, "n_pairs": len(some), "seconds": seconds})
    return pd.DataFrame(rows)


def _work(method: Any, case: Case) -> Callable[[], Any]:
    blended = case.blended()
    return lambda: method.attribute(case.model, blended, TARGET)


def crossed_figures(table: pd.DataFrame, inputs: int) -> list[Figure]:
    """Speed against Captum, the cost of many baselines, and the share of the joins."""
    seconds = table.pivot(index="turn", columns="what", values="seconds")
    n_pairs = table.drop_duplicates("what").set_index("what")["n_pairs"]
    each = seconds / n_pairs
    part = "grad_x_delta"
    shape = f"{inputs} inputs and {inputs} controls, {n_pairs[MANY] // inputs} baselines an input"
    few = f"{shape}; Captum timed on {n_pairs[CAPTUM]} of the {n_pairs[MANY]:,} pairs"
    cost, joins = seconds[MANY] / seconds[ONE], 100 * seconds[BARE] / seconds[MANY]
    return [
        Figure(part, "a pair, both directions", float(each[MANY].median()), "s", note=shape),
        Figure(
            part,
            "speed, ours / Captum",
            float((each[CAPTUM] / each[MANY]).median()),
            "x",
            at_least=30,
            note=few,
        ),
        Figure(
            part, "cost of all baselines / one", float(cost.median()), "x", at_most=1.3, note=shape
        ),
        Figure(
            part,
            "joins",
            float(joins.median()),
            "%",
            at_most=20,
            note="all pairs through the same model without its layers",
        ),
    ]


def ratio_figures(runs: Mapping[str, Sequence[MethodRun]], n_steps: int) -> list[Figure]:
    """`deeplift` against one gradient and `integrated_gradients` against Captum's, turn by turn."""
    cost = _ratios(runs, "deeplift", GRADIENT)
    faster = _ratios(runs, "captum_integrated_gradients", "integrated_gradients")
    pairs = f"{runs[GRADIENT][0].n_pairs} pairs"
    return [
        Figure(
            "deeplift",
            "time / one gradient",
            float(np.median(cost)),
            "x",
            at_most=4,
            note=f"both members in one padded batch, fused attention; {pairs}, {_range(cost)}",
        ),
        Figure(
            "integrated_gradients",
            "speed, ours / Captum",
            float(np.median(faster)),
            "x",
            at_least=3,
            note=f"{n_steps} steps each; {pairs}, {_range(faster)}",
        ),
    ]


def _ratios(
    runs: Mapping[str, Sequence[MethodRun]], numerator: str, denominator: str
) -> np.ndarray:
    """(turns,) seconds of one over those of the other; they follow each other within a turn."""
    over, under = ([np.median(run.seconds) for run in runs[n]] for n in (numerator, denominator))
    return np.array(over) / np.array(under)


def _range(ratios: np.ndarray) -> str:
    return f"{ratios.min():.2f} to {ratios.max():.2f} over {len(ratios)} turns"
