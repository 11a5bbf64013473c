"""Gene tables as CSV and parquet, with the same types whichever way they come back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gradgene.errors import RankingError, closest

__all__ = ["read_gene_frame", "write_gene_frame"]

SUFFIXES = (".csv", ".parquet")
#: Types of columns that are not floating-point numbers.
INTEGERS = ("rank", "n_pairs", "n_cells", "n_donors")
TEXTS = (
    *("gene", "ensembl_id", "direction", "flags", "method", "baseline", "target", "model"),
    *("split", "config_hash", "category", "label"),
)
FACTS = ("seed",)


def write_gene_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write the rows of a gene table; raises `RankingError` unless `.csv` or `.parquet`."""
    _require_suffix(path)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)


def read_gene_frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The rows of a gene table with the types of one that was just made.

    Raises
    ------
    RankingError
        If the file is missing or unreadable, lacks one of `columns`, holds text in a column of
        numbers, or names a gene or a rank twice.
    """
    _require_suffix(path)
    if not path.is_file():
        raise RankingError(f"no such file: {path}")
    frame = _raw(path)
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise RankingError(
            f"lacks {', '.join(missing)}",
            where=str(path),
            expected="the columns of a gene table",
            found=closest(missing[0], frame.columns),
        )
    frame = frame.assign(**{c: _typed(frame[c], c, path) for c in frame.columns})
    for column in ("gene", "rank"):
        known = frame[column].dropna()
        if not known.is_unique:
            twice = known[known.duplicated()].iloc[0]
            raise RankingError(f"{column} {twice} occurs more than once", where=str(path))
    return frame


def _require_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise RankingError(
            f"a gene table cannot be kept as {path.suffix or 'a file without suffix'!r}",
            where=str(path),
            expected=" or ".join(SUFFIXES),
        )


def _raw(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        # Only a blank is null: there are genes called NAN.
        return pd.read_csv(
            path,
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
            dtype=dict.fromkeys(TEXTS, object),
        )
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise RankingError(
            "cannot be read as a gene table",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
        ) from error


def _typed(values: pd.Series, column: str, path: Path) -> pd.Series:
    """A column with the type it has in a table that was just made."""
    try:
        if column in INTEGERS:
            return values.astype("Int64")
        if column == "outlier":
            return values.astype("boolean")
        if column in TEXTS or (column in FACTS and values.isna().all()):
            return values.astype(object).where(values.notna(), None)
        if column in FACTS:
            return values.astype("int64")
        return values.astype("float64")
    except (ValueError, TypeError) as error:
        raise RankingError(
            f"the column {column!r} holds what it should not",
            where=str(path),
            found=str(error),
        ) from error
