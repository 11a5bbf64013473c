"""Pairs that a file lists by cell names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gradgene.cells import Cells
from gradgene.errors import PairError

__all__ = ["listed_pairs"]


def listed_pairs(name: str, cells: Cells) -> list[tuple[int, int]]:
    """Positions of the input and the baseline of each pair in a file, in its order.

    `name` is a CSV or parquet with columns `input` and `baseline` holding cell names.

    Raises
    ------
    PairError
        If there is no such file, it is no such table, or it names cells that are not there or that
        several cells are called.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise PairError(f"no such file: {file}", where="pairs.file")
    frame = _read_table(file)
    missing = [c for c in ("input", "baseline") if c not in frame.columns]
    if missing:
        raise PairError(
            f"lacks the column {missing[0]!r}",
            where=str(file),
            expected="columns input and baseline holding cell names",
            found=", ".join(frame.columns),
        )
    if not cells.obs.index.is_unique:
        raise PairError(
            "cell names occur more than once, so a pair file is ambiguous",
            where="pairs.file",
            fix="call obs_names_make_unique() on the data first",
        )
    position = {name: i for i, name in enumerate(cells.obs.index)}
    unknown = [n for n in (*frame["input"], *frame["baseline"]) if n not in position]
    if unknown:
        raise PairError(
            f"{len(unknown)} cell names are not among the cells: {unknown[0]!r}",
            where=str(file),
            fix="use obs names of held-out cells that pass the filters",
        )
    return [
        (position[a], position[b]) for a, b in zip(frame["input"], frame["baseline"], strict=True)
    ]


def _read_table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    except (ValueError, OSError) as error:
        raise PairError(
            "cannot be read as a table",
            where=str(file),
            expected="CSV or parquet with columns input and baseline",
            found=f"{type(error).__name__}: {error}",
        ) from error
