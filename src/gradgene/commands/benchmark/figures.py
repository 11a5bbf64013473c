"""What a benchmark reports, and where it was measured."""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import yaml
from matplotlib.figure import Figure as Picture

from gradgene.commands.config.targets import convert, parameters
from gradgene.errors import ConfigError, closest
from gradgene.provenance import provenance, settings_hash

__all__ = [
    "Figure",
    "Findings",
    "check_positive",
    "in_fresh_process",
    "machine",
    "read_settings",
]

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark, and what it should be.

    Attributes
    ----------
    part
        What was measured, for example "streaming".
    name, unit
        Which quantity, in which unit ("" for a plain number).
    value
        None where it could not be measured; `note` then says why.
    at_least, at_most
        What the project asks of the number, or None.
    note
        What a reader needs to know to use it.
    """

    part: str
    name: str
    value: float | None
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def goal(self) -> str:
        """The goal in words, "" where there is none."""
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without a goal or a value."""
        if self.value is None or not self.goal:
            return None
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= self.value <= high


@dataclass(frozen=True)
class Findings:
    """All figures of one benchmark, the raw tables behind them and pictures (name -> each)."""

    figures: tuple[Figure, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def __getitem__(self, key: tuple[str, str]) -> float:
        """Value of the figure of that part and name; raises `KeyError` if it has none."""
        for figure in self.figures:
            if (figure.part, figure.name) == key and figure.value is not None:
                return figure.value
        raise KeyError(key)

    def table(self) -> pd.DataFrame:
        """`part, figure, value, unit, goal, met, note`, a row a figure."""
        rows = [{**asdict(f), "goal": f.goal, "met": f.met} for f in self.figures]
        columns = ["part", "figure", "value", "unit", "goal", "met", "note"]
        return pd.DataFrame(rows).rename(columns={"name": "figure"})[columns]


def read_settings(kind: Callable[..., S], words: Sequence[str], where: str) -> S:
    """Build the dataclass `kind` from words `key=value`; absent keys keep their defaults.

    Raises
    ------
    ConfigError
        For an unknown key or a value of the wrong type.
    """
    takes = parameters(kind)
    values: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key not in takes:
            raise ConfigError(
                "is not a setting of this benchmark",
                where=f"{where} {key}",
                expected=f"one of {closest(key, takes, n=len(takes))}",
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError("cannot be read", where=key, found=repr(text)) from error
        values[key] = convert(takes[key].annotation, value, key)
    return kind(**values)


def check_positive(settings: Any, *names: str) -> None:
    """Raise `ConfigError` naming the first of these fields that is not above zero."""
    for name in (f.name for f in fields(settings) if f.name in names):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise ConfigError("is too small", where=name, expected="above 0", found=str(value))


def machine(device: str, seed: int, threads: int | None = None) -> dict[str, Any]:
    """The machine and the versions that a number belongs to.

    `threads` are those torch will be given, None for as many as it has.
    """
    facts = provenance(None, None, settings_hash({}), device)
    kept = ("gradgene", "python", "platform", "device", "packages")
    return {
        **{key: facts[key] for key in kept},
        "threads": threads or facts["threads"],
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(_memory_gb(), 1),
        # Other work on the machine shows here, and every speed suffers from it.
        "load": round(os.getloadavg()[0], 2),
        "seed": seed,
    }


def in_fresh_process(function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Call a function of a module in a new process, so that its memory is its own.

    Arguments and result are pickled; an exception of the function is raised here.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *given, **named).result()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
