"""Tables of genes that a user names: tab- or comma-separated, plain or gzipped."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gradgene.errors import ConfigError, closest

__all__ = ["read_gene_columns"]

SEPARATORS = {".tsv": "\t", ".txt": "\t", ".csv": ","}


def read_gene_columns(path: str | Path, columns: Sequence[str], where: str) -> pd.DataFrame:
    """Read `columns` of a .tsv, .txt (tabs) or .csv file, each also as .gz, all as text.

    Empty fields become empty text. `where` is the configuration key that named the file.

    Raises
    ------
    ConfigError
        If the file is missing, of another kind, cannot be read, lacks a column or has no row.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"no such file: {file}", where=where)
    suffixes = [s.lower() for s in file.suffixes if s.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in SEPARATORS:
        raise ConfigError(
            f"{file} is not known to be a table",
            where=where,
            expected="a name ending in .tsv, .txt or .csv, and .gz where it is compressed",
        )
    try:
        table = pd.read_csv(file, sep=SEPARATORS[kind], dtype=str, keep_default_na=False)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError) as error:
        # pandas' own errors of parsing are ValueErrors.
        raise ConfigError(f"cannot read {file}: {error}", where=where) from error
    for column in columns:
        if column not in table.columns:
            raise ConfigError(
                f"{file} has no column {column!r}",
                where=where,
                expected=f"one of {closest(column, table.columns)}",
            )
    if table.empty:
        raise ConfigError(f"{file} has no row", where=where)
    return pd.DataFrame({column: table[column].str.strip() for column in columns})
