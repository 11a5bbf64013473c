"""Files of the user's own: a name a line, and tables by name of column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gradgene.errors import CellsError, GradgeneError, closest

__all__ = ["read_names", "read_table"]


def read_names(
    name: str, where: str, *, error: type[GradgeneError] = CellsError
) -> tuple[str, ...]:
    """The gene names of a text file, one a line, as often and in the order as they stand there.

    Raises
    ------
    GradgeneError
        An `error` naming the key `where`, for a missing, unreadable or empty file.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise error(f"no such gene list: {file}", where=where)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise error(
            f"cannot read {file}: {problem}",
            where=where,
            expected="a text file of gene names, one a line",
        ) from problem
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise error(f"{file} names no gene", where=where)
    return names


def read_table(
    name: str | Path,
    where: str,
    columns: Sequence[str],
    *,
    error: type[GradgeneError],
    text: bool = False,
) -> pd.DataFrame:
    """A CSV or parquet file that has `columns`; a CSV all as text where `text` is set.

    Raises
    ------
    GradgeneError
        An `error`, for a missing file (naming the key `where`), an unreadable one or a missing
        column.
    """
    file, expected = Path(name).expanduser(), f"columns {' and '.join(columns)}"
    if not file.is_file():
        raise error(f"no such file: {file}", where=where)
    try:
        if file.suffix == ".parquet":
            frame = pd.read_parquet(file)
        else:
            frame = pd.read_csv(file, dtype=str if text else None)
    except (ValueError, OSError) as problem:  # pandas' and pyarrow's own errors are ValueErrors
        raise error(
            "cannot be read as a table",
            where=str(file),
            expected=f"CSV or parquet with {expected}",
            found=f"{type(problem).__name__}: {problem}",
        ) from problem
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise error(
            f"lacks the column {missing[0]!r}",
            where=str(file),
            expected=expected,
            found=closest(missing[0], frame.columns),
        )
    return frame
