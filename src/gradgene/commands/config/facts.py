"""The sections of the configuration that are plain facts rather than something to build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gradgene.errors import ConfigError

__all__ = ["Paths", "RunFacts", "StudyFacts", "SweepFacts"]

#: How figures begin of which less is better.
FALLING = ("loss", "ece", "infidelity", "relative_delta")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What every run states once under `study:`, for the leaves to interpolate.

    Attributes
    ----------
    name
        Name of the run, also of its output directory.
    donor
        Obs column that names the donor, or null.
    filters
        `{column: [labels]}`: cells to keep.
    seed
        Seed of everything random.
    """

    name: str
    donor: str | None = None
    filters: dict[str, list[str]] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        self._require("name")

    def _require(self, *keys: str) -> None:
        for key in keys:
            if not getattr(self, key).strip():
                raise ConfigError(
                    "is empty", where=f"study.{key}", fix=f"write study.{key}=... with a value"
                )


@dataclass(frozen=True, kw_only=True)
class StudyFacts(RunFacts):
    """What a study asks besides.

    Attributes
    ----------
    target
        Phenotype category (obs column) whose label is explained.
    input, baseline
        The two labels of `target` that make the members of a pair.
    match_on
        Categories that must be equal within a pair.
    by
        Category whose labels get gene tables of their own, or null.
    batch
        Obs column that names the technical batch, or null; how much of a score it explains is
        reported.
    compare
        Further attribution leaves computed on the same model and pairs.
    """

    target: str
    input: str
    baseline: str
    match_on: tuple[str, ...] = ()
    by: str | None = None
    batch: str | None = None
    compare: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._require("name", "target", "input", "baseline")
        if self.target in self.match_on:
            raise ConfigError(
                "the target cannot be matched on: input and baseline differ in it",
                where="study.match_on",
                expected=f"categories other than {self.target!r}",
                found=str(list(self.match_on)),
                fix=f"take {self.target!r} out of study.match_on or choose another study.target",
            )
        if self.input == self.baseline:
            raise ConfigError(
                "input and baseline are the same label",
                where="study.baseline",
                expected=f"a label of {self.target!r} other than study.input",
                found=repr(self.baseline),
                fix="write study.baseline=... with another label",
            )


@dataclass(frozen=True)
class Paths:
    """Where a run writes, relative to the directory the command is started in.

    Attributes
    ----------
    output_dir
        The folder of the run.
    cache
        The folder of stages that runs share; null or empty shares none.
    """

    output_dir: str
    cache: str | None = None

    def __post_init__(self) -> None:
        if not self.output_dir.strip():
            raise ConfigError(
                "is empty", where="paths.output_dir", fix="write paths.output_dir=runs/NAME"
            )


@dataclass(frozen=True)
class SweepFacts:
    """What the jobs of a sweep are compared by.

    Attributes
    ----------
    objective
        Name of a figure in `metrics.json`, or null.
    direction
        Whether more of it is better; null for what its name says: less of a loss, of an error or
        of what is left without the best genes is.
    group
        What trackers group the jobs under; null for the name of the study.
    """

    objective: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    group: str | None = None

    @property
    def towards(self) -> Literal["maximize", "minimize"]:
        """Which way is better."""
        name = self.objective or ""
        falls = name.rpartition("/")[2].startswith(FALLING) or "/highest_first/" in name
        return self.direction or ("minimize" if falls else "maximize")
