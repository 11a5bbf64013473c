"""Do the values of a matrix agree with what the configuration says they are?"""

from __future__ import annotations

import numpy as np

from gradgene.cells.schema import ValueKind
from gradgene.errors import CellsError

__all__ = ["check_values"]

#: log1p of a count scaled to 1e4 is at most log1p(1e4) = 9.2; far above is no logarithm.
LOGNORM_CEILING = 30.0


def check_values(data: np.ndarray, values: ValueKind, *, where: str) -> None:
    """Check the stored entries `data` of an expression matrix.

    Raises
    ------
    CellsError
        For NaN, infinite or negative entries, for non-integer "counts", and for "lognorm"
        values that are counts.
    """
    if data.size == 0:
        return
    finite = np.isfinite(data)
    if not finite.all():
        raise CellsError(
            f"{int((~finite).sum())} expression values are NaN or infinite",
            where=where,
            expected="finite values",
            fix="remove or repair these entries",
        )
    if data.min() < 0:
        raise CellsError(
            f"{int((data < 0).sum())} expression values are negative (lowest {data.min():.3g})",
            where=where,
            expected=f"{values}, which are never negative",
            fix="point data.layer to unscaled values ('raw' reads .raw)",
        )
    whole = bool(np.all(data == np.round(data)))
    if values == "counts" and not whole:
        found = float(data[data != np.round(data)][0])
        raise CellsError(
            "values declared as counts are not whole numbers",
            where=where,
            expected="integer counts",
            found=f"{found:.4g}",
            fix="set data.values=lognorm if they are log-normalised, or choose data.layer",
        )
    if values == "lognorm" and (data.max() > LOGNORM_CEILING or (whole and data.max() > 1)):
        raise CellsError(
            "values declared as log-normalised look like counts",
            where=where,
            expected=f"log1p values below {LOGNORM_CEILING:.0f}",
            found=f"{'only whole numbers, ' if whole else ''}highest {data.max():.4g}",
            fix="set data.values=counts",
        )
