"""What work will take, and what the jobs of a sweep plan while a dry run goes through them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Estimate", "JobPlan", "Planned", "total"]


@dataclass(frozen=True)
class Estimate:
    """Seconds of work and the highest resident memory in MB."""

    seconds: float
    peak_mb: float

    def __str__(self) -> str:
        return "about {}, {}".format(*self.spoken)

    @property
    def spoken(self) -> tuple[str, str]:
        """Time and memory as one says them."""
        return _spoken(self.seconds), _size(self.peak_mb)


@dataclass(frozen=True)
class JobPlan:
    """What one job will do.

    Attributes
    ----------
    addresses
        Of the stages that it will leave in the cache.
    seconds, peak_mb
        What its stages take together.
    whole
        Whether every stage is in that.
    """

    addresses: tuple[str, ...]
    seconds: float
    peak_mb: float
    whole: bool


@dataclass(frozen=True)
class Planned:
    """The plans of a sweep's jobs, as one of them sees them: what two share is done once.

    Attributes
    ----------
    folder
        Of the dry run, with a file a job.
    job
        Number of the job.
    """

    folder: Path
    job: int

    def earlier(self, address: str) -> int | None:
        """The job that will have left this in the cache; None where no other plans it."""
        plans = self.read(self.folder)
        jobs = [job for job, plan in plans.items() if address in plan.addresses]
        return min((job for job in jobs if job != self.job), default=None)

    def note(self, plan: JobPlan) -> None:
        """Note what this job will do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{self.job}.json"
        file.with_suffix(".new").write_text(json.dumps(asdict(plan)))
        file.with_suffix(".new").replace(file)  # other jobs may be reading

    @staticmethod
    def read(folder: Path) -> dict[int, JobPlan]:
        """Job -> its plan, of all that have one."""
        return {int(f.stem): JobPlan(**json.loads(f.read_text())) for f in folder.glob("*.json")}


def total(plans: Sequence[JobPlan]) -> str:
    """What the jobs take one after the other."""
    seconds, peak_mb = sum(p.seconds for p in plans), max(p.peak_mb for p in plans)
    more = "" if all(plan.whole for plan in plans) else ", not counting what is not estimated"
    return f"all jobs in turn: {Estimate(seconds, peak_mb)}{more}"


def _spoken(seconds: float) -> str:
    """Seconds as one says them: 4 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _size(mb: float) -> str:
    return f"{mb / 1024:.1f} GB" if mb >= 1000 else f"{round(mb)} MB"
