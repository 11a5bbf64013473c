"""What the stages of a run would do, in how much time and memory; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gradgene.commands.estimate import Estimate
from gradgene.commands.run_folder import RunFolder

__all__ = ["Forecast", "tell_stages"]


@dataclass(frozen=True)
class Forecast:
    """What a stage will do, what it will take (None: nobody knows), and what that leaves out."""

    work: str
    estimate: Estimate | None = None
    without: str = ""


def tell_stages(
    work: RunFolder, stages: Mapping[str, Callable[[Any], Forecast]], and_then: str = ""
) -> None:
    """Print a table of stages, those to do with their forecasts, and what it does not count.

    `and_then` names what follows the stages. Estimates are measured here and now, on a little of
    the work itself.
    """
    table, without = Table("stage", "state", "work", "time", "memory"), []
    known: list[Estimate] = []
    for stage, forecast in stages.items():
        if work.is_done(stage):
            table.add_row(stage, "done", "", "", "")
            continue
        if work.in_cache(stage):
            table.add_row(stage, "in the cache", "", "", "")
            continue
        with work.console.status(f"trying {stage}"):
            told = forecast(work)
        takes = ("not estimated", "") if told.estimate is None else told.estimate.spoken
        table.add_row(stage, "to do", told.work, *takes)
        known += [told.estimate] if told.estimate is not None else []
        without += [f"{stage}: not counting {told.without}"] if told.without else []
    if len(stages) > 1 and known:
        total = Estimate(sum(e.seconds for e in known), max(e.peak_mb for e in known))
        table.add_section()
        table.add_row("all", "", "", *total.spoken)
    work.console.print(table)
    for line in [*without, *([f"then: {and_then}"] if and_then else [])]:
        work.console.print(line, highlight=False)
    work.console.print(f"results in {work.folder}")
