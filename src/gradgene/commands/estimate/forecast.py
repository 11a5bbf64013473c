"""What the stages of a run would do, in how much time and memory; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gradgene.commands.run.folder import RunFolder
from gradgene.commands.sweep.planned import Estimate, JobPlan, Planned

__all__ = ["Forecast", "tell_stages"]


@dataclass(frozen=True)
class Forecast:
    """What a stage will do, what it will take (None: nobody knows), and what that leaves out."""

    work: str
    estimate: Estimate | None = None
    without: str = ""


def tell_stages(
    work: RunFolder,
    stages: Mapping[str, Callable[[Any], Forecast]],
    and_then: str = "",
    planned: Planned | None = None,
) -> None:
    """Print a table of stages, those to do with their forecasts, and what it does not count.

    `and_then` names what follows the stages. Estimates are measured here and now, on a little of
    the work itself. A stage that an earlier job of the sweep has `planned` is not to do again.
    """
    table, without = Table("stage", "state", "work", "time", "memory"), []
    known: list[Estimate] = []
    shared: list[str] = []
    n_to_do = 0
    for stage, forecast in stages.items():
        if work.is_done(stage):
            table.add_row(stage, "done", "", "", "")
            continue
        if work.in_cache(stage):
            table.add_row(stage, "in the cache", "", "", "")
            continue
        address = None if planned is None else work.shared_as(stage)
        other = None if planned is None or address is None else planned.earlier(address)
        if other is not None:
            table.add_row(stage, f"shared with job {other}", "", "", "")
            continue
        shared += [address] if address is not None else []
        n_to_do += 1
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
    if planned is not None:
        seconds, peak_mb = sum(e.seconds for e in known), max((e.peak_mb for e in known), default=0)
        planned.note(JobPlan(tuple(shared), seconds, peak_mb, whole=len(known) == n_to_do))
