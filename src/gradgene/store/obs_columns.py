"""Obs columns of cells from several parts: filtering by labels, and one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradgene.cells.labels import as_labels, join_labels
from gradgene.errors import LabelError, closest

__all__ = ["joined_column", "require_labels", "rows_where"]


def rows_where(obs: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Ascending positions of the rows that have one of the labels in every column of `where`.

    Rows of a table without such a column have no label there.
    """
    keep_n = np.ones(len(obs), dtype=bool)
    for column, labels in where.items():
        if column not in obs.columns:
            return np.zeros(0, dtype=np.int64)
        known = as_labels(obs[column])
        wanted = np.append(known.categories.isin(list(labels)), False)  # read by code -1, NaN
        keep_n &= wanted[known.codes]
    return np.flatnonzero(keep_n)


def require_labels(tables: Sequence[pd.DataFrame], where: Mapping[str, Sequence[str]]) -> None:
    """Raise `LabelError` for a label of `where` that no table has in that column."""
    for column, labels in where.items():
        columns = [as_labels(table[column]) for table in tables if column in table.columns]
        known = sorted(set().union(*(c.categories for c in columns)))
        for label in labels:
            if label not in known:
                raise LabelError(
                    f"no cell has the label {label!r}",
                    where=f"where.{column}",
                    expected=f"one of {closest(label, known)}",
                )


def joined_column(columns: Sequence[pd.Series]) -> Any:
    """Columns one below the other: numbers if all are numbers, otherwise labels.

    A part without the column gives one of NaN only, which fits both.
    """
    known = [column for column in columns if not column.isna().all()]
    if all(not isinstance(column.dtype, pd.CategoricalDtype) for column in known):
        return np.concatenate([column.to_numpy() for column in columns])
    return join_labels([as_labels(column) for column in columns])
