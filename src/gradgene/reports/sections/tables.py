"""A table of finished text, and how values become it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import pandas as pd

from gradgene.reports.numbers import number

__all__ = ["Table", "frame_table", "joined", "make_table", "metric_value"]


@dataclass(frozen=True)
class Table:
    """Headings and rows of finished text; `numeric` says for each column whether to align right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


def make_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table | None:
    """A table of any values; a column is numeric if it holds a number and no text."""
    if not rows:
        return None
    numeric = tuple(
        any(_is_number(row[i]) for row in rows) and not any(isinstance(row[i], str) for row in rows)
        for i in range(len(headings))
    )
    texts = tuple(tuple(number(value) for value in row) for row in rows)
    return Table(tuple(headings), texts, numeric)


def frame_table(frame: pd.DataFrame | None, headings: Mapping[str, str]) -> Table | None:
    """A table of those columns of a frame that exist and hold a value, in the headings' order."""
    if frame is None:
        return None
    names = [
        name
        for name in headings
        if name in frame and (frame[name].notna() & (frame[name].astype(str) != "")).any()
    ]
    # Column by column: one array of several kinds would turn counts into fractions.
    rows = list(zip(*(frame[name].tolist() for name in names), strict=True)) if names else []
    return make_table([headings[name] for name in names], rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and value == value


def joined(value: Any) -> str:
    """A list as one text, anything else as its own."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def metric_value(key: str, value: Any) -> Any:
    """A metric's value, counts as whole numbers even where JSON made them 12.0."""
    name = key.rpartition("/")[2]
    whole = name.startswith("n_") and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value
