"""Numbers as a reader wants them: three digits that matter, counts in full."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import pandas as pd

__all__ = ["number", "percent"]


def number(value: Any) -> str:
    """Write a value for a table or a sentence.

    Parameters
    ----------
    value
        Anything: counts get thousands separators, other numbers three significant digits (in
        powers of ten below 0.0001 and from 100,000), null a dash, the rest its own text.

    Returns
    -------
    str
    """
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if not isinstance(value, float):
        return str(value)
    size = abs(float(value))
    return f"{value:,.0f}" if 1000 <= size < 1e5 else f"{value:.3g}"


def percent(share: float) -> str:
    """Write a share between 0 and 1 as a percentage, such as `5 %`, free of rounding noise."""
    return f"{100 * share:.3g} %"
