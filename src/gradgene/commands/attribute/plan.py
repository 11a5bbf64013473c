"""The pairs of an attribution: drawn, told, written and estimated before any of it is done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.table import Table

from gradgene.attribution import AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.attribute.running import (
    attributed_before,
    attribution_key,
    module_of,
    new_sums,
)
from gradgene.commands.config.binding import build
from gradgene.commands.estimate.attribution import Pace, measure_pace, most_tokens
from gradgene.commands.run.memory import free_mb, peak_mb
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.sweep.planned import Estimate
from gradgene.lit import Explained, PlannedPairs, pair_batches
from gradgene.pairs import BaselineStrategy, PairPlan, PairSampler
from gradgene.store import write_json, write_parquet

__all__ = ["Parts", "arranged_pairs", "estimates", "plan_pairs", "tell_plan", "timed", "write_plan"]

Parts = dict[str, tuple[Cells, PairPlan]]
#: By method and split; None for what the cache holds, which takes next to nothing.
Estimates = dict[tuple[str, str], Estimate | None]


def plan_pairs(work: Workspace) -> dict[str, PairPlan]:
    """The pairs of held-out ("test") and of training cells ("train"); see `arranged_pairs`."""
    return {split: plan for split, (_, plan) in arranged_pairs(work).items()}


def arranged_pairs(work: Workspace) -> Parts:
    """Draw the pairs of held-out ("test") and of training cells ("train"), each with its cells.

    The baseline arranges each part by itself, so that what it makes of cells never mixes parts.

    Raises
    ------
    GradgeneError
        If the cells do not fit the study or no pair can be formed.
    """
    sampler: PairSampler = build(work.cfg.pairs)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    arranged = {}
    for split, drawer in (("test", sampler), ("train", sampler.for_training())):
        cells = work.data.part(split)
        arranged[split] = baseline.arrange(cells, drawer.sample(cells))
    return arranged


def tell_plan(work: Workspace, parts: Parts, found: Estimates, *, table: bool = False) -> None:
    """Say how many pairs there are, which cells found no baseline, and what it will take."""
    for split, (_, plan) in parts.items():
        if table:
            work.console.print(_table(split, plan))
        if table or split == "test":
            for row in plan.skipped.itertuples():
                work.console.print(f"[yellow]skipped {row.n_cells} input cells: {row.reason}[/]")
    for (method, split), estimate in found.items():
        n_pairs = len(parts[split][1])
        takes = "in the cache" if estimate is None else str(estimate)
        work.console.print(f"{method}, {n_pairs} pairs of {split} cells: {takes}")


def write_plan(work: Workspace, parts: Parts, found: Estimates) -> None:
    """Write `plan.parquet`, `strata.parquet` and `plan.json`, and the number of pairs."""
    folder = work.folder / "attributions"
    plans = {split: plan for split, (_, plan) in parts.items()}
    tables = [plan.table.assign(split=split) for split, plan in plans.items()]
    strata = [plan.strata().assign(split=split) for split, plan in plans.items()]
    write_parquet(pd.concat(tables, ignore_index=True), folder / "plan.parquet")
    write_parquet(pd.concat(strata, ignore_index=True), folder / "strata.parquet")
    told: dict[str, dict[str, dict[str, Any]]] = {}
    tokens = {settings.method.name: work.batch_tokens(settings) for settings in work.attributions}
    for (method, split), estimate in found.items():
        one = told.setdefault(method, {})[split] = {
            "n_pairs": len(plans[split]),
            "batch_tokens": tokens[method],
        }
        one["key"] = attribution_key(work)
        if estimate is None:
            one["from_cache"] = True
        else:
            one["estimated_seconds"] = round(estimate.seconds, 3)
            one["estimated_peak_mb"] = round(estimate.peak_mb)
    write_json(told, folder / "plan.json")
    plan = plans["test"]
    work.add_metrics({"pairs/n_pairs": len(plan), "pairs/n_skipped": plan.n_skipped})


def estimates(work: Workspace, parts: Parts) -> Estimates:
    """Method and split -> what it will take; measured on test pairs, for both splits.

    What was estimated before an interruption is not measured again, nor are tokens a batch chosen
    again: what was done is kept batch by batch. What is in the cache is not measured at all.
    """
    kept = _kept_estimates(work)
    found: Estimates = {}
    for settings in work.attributions:
        name, pace = settings.method.name, None
        if settings.batch_tokens == "auto" and (name, "test") not in kept:
            pace = _pace(work, settings, *parts["test"])
            choose_tokens(work, settings, pace, *parts["test"])
        for split, (cells, plan) in parts.items():
            if (name, split) not in kept:
                batches = pair_batches(
                    cells,
                    work.loaded.tokenizer,
                    plan,
                    work.batch_tokens(settings),
                    per_cell=settings.method.per_cell,
                )
                if attributed_before(work, settings, batches, split):
                    kept[name, split] = None
                else:
                    pace = pace or _pace(work, settings, *parts["test"])
                    kept[name, split] = pace.of(batches, work.n_processes)
            found[name, split] = kept[name, split]
    return found


def choose_tokens(
    work: Workspace, settings: AttributionSettings, pace: Pace, cells: Cells, plan: PairPlan
) -> None:
    """Take as many tokens a batch as the memory that is free is estimated to hold, and say so.

    Processes that share a machine share its memory; of GPUs each has its own.
    """
    method, n = settings.method, 1
    if work.device == "cpu":
        n = work.n_processes // int(work.cfg.trainer.get("num_nodes") or 1)
    free = free_mb(work.device) / n
    batches = pair_batches(
        cells, work.loaded.tokenizer, plan, work.batch_tokens(settings), per_cell=method.per_cell
    )
    tokens = most_tokens(pace, batches, work.device, free)
    work.chosen_tokens[method.name] = tokens
    work.console.print(
        f"{method.name}: attribution.batch_tokens=auto takes {tokens}, as {free:.0f} MB are free"
        + (f" to each of {n} processes" if n > 1 else "")
    )


@contextmanager
def timed(work: Workspace, method: str, split: str) -> Iterator[dict[str, Any]]:
    """Note in `plan.json` how long it took, the highest memory so far, and what is yielded."""
    started = time.perf_counter()
    noted: dict[str, Any] = {}
    yield noted
    if not work.is_main:
        return
    file = work.folder / "attributions" / "plan.json"
    told = json.loads(file.read_text())
    told[method][split] |= {
        "seconds": round(time.perf_counter() - started, 3),
        "peak_mb": round(peak_mb()),
        **noted,
    }
    write_json(told, file)


def _pace(work: Workspace, settings: AttributionSettings, cells: Cells, plan: PairPlan) -> Pace:
    """Measure a method on the pairs of a plan, from tokens to sums."""
    tokenizer = work.loaded.tokenizer
    per_cell = settings.method.per_cell
    batches = pair_batches(cells, tokenizer, plan, work.batch_tokens(settings), per_cell=per_cell)
    served = PlannedPairs(cells, tokenizer, plan)
    module, sums = module_of(work, settings), new_sums(work, settings, cells, plan)
    sums = sums.to(work.device)

    def attribute(pairs: np.ndarray) -> None:
        found = module.predict_step(served[pairs].to(work.device), 0)
        assert isinstance(found, Explained)  # as asked for by `module_of`
        if found.attribution is not None:  # a pair that has no scores is told of in its turn
            kept = torch.from_numpy(pairs[found.kept]).to(work.device)
            sums.update(found.attribution, kept)

    with work.console.status(f"trying {settings.method.name}"):
        # Beside the sums of this trial there will be the real ones, each with zeros of its size.
        return measure_pace(attribute, batches, work.device, 2 * sums.state_bytes / 2**20)


def _kept_estimates(work: Workspace) -> Estimates:
    file = work.folder / "attributions" / "plan.json"
    told = json.loads(file.read_text()) if file.is_file() else {}
    key = attribution_key(work)
    return {
        (method, split): None
        if one.get("from_cache")
        else Estimate(one["estimated_seconds"], one["estimated_peak_mb"])
        for method, splits in told.items()
        for split, one in splits.items()
        if one.get("key") == key
    }


def _table(split: str, plan: PairPlan) -> Table:
    """The strata, narrow enough for a terminal: donors are those of inputs and of baselines."""
    headings = ("stratum", "pairs", "inputs", "baselines", "donors", "skipped")
    table = Table(*headings, title=f"{len(plan)} pairs of {split} cells")
    for row in plan.strata().itertuples():
        baselines = f"{row.n_baselines} of {row.n_controls}"
        donors = f"{row.n_donors_input}, {row.n_donors_baseline}"
        numbers = (row.n_pairs, row.n_inputs, baselines, donors, row.n_skipped)
        table.add_row(str(row.stratum), *map(str, numbers))
    return table
