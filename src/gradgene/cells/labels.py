"""Labels of cells as text, and which of them say that nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["MISSING_LABELS", "as_labels", "join_labels"]

# What files write for a missing label, whatever the case; `unknown` is CELLxGENE's. "none" is not
# among them: an untreated cell may be labelled so.
MISSING_LABELS = ("", "unknown", "nan", "na", "n/a", "<na>")


def as_labels(values: Any) -> pd.Categorical:
    """An obs column as a categorical of text; missing labels (`MISSING_LABELS`) are NaN.

    Categories that no cell has, which subsets of an atlas carry along, are left out. A whole number
    that a gap in its column turned into 1015.0 is "1015".
    """
    column = pd.Categorical(values).remove_unused_categories()
    texts = [_text(value) for value in column.categories]
    known = sorted({text for text in texts if text is not None})
    place = {text: code for code, text in enumerate(known)}
    codes = np.array([-1 if text is None else place[text] for text in texts] + [-1])
    # Code -1 (NaN in the file) reads the entry appended at the end, which is -1 as well.
    return pd.Categorical.from_codes(codes[column.codes], categories=pd.Index(known, dtype=object))


def join_labels(columns: Sequence[pd.Categorical]) -> pd.Categorical:
    """The columns of several files one after the other, over the labels of all."""
    known = sorted(set().union(*(column.categories for column in columns)))
    return pd.Categorical.from_codes(
        np.concatenate([column.set_categories(known).codes for column in columns]),
        categories=pd.Index(known, dtype=object),
    )


def _text(value: object) -> str | None:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value)
    return None if text.strip().lower() in MISSING_LABELS else text
