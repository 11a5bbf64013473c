"""From expression values to bins: fixed edges, equal widths, or quantiles of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from scipy import sparse

from gradgene.errors import TokenError

__all__ = ["Binning", "Bins"]

#: How edges become bins: as they are, at equal distances, or by the quantiles of each cell.
Binning = Literal["fixed", "equal", "quantile"]

#: Up to here comparing with every edge is faster than searching for the right one.
FEW_EDGES = 24


@dataclass(frozen=True)
class Bins:
    """Which values are expressed, and how strongly.

    Parameters
    ----------
    edges
        Increasing lower edges of `bin_1 … bin_n`; a value below the first is not expressed, and one
        at an edge belongs to the bin above it.
    quantiles
        None, or the number of bins that each cell's own expressed values are cut into; `edges`
        then holds the threshold of expression alone.

    Raises
    ------
    TokenError
        If the edges are not finite or do not increase, or quantiles come with more than one.
    """

    edges: tuple[float, ...]
    quantiles: int | None = None

    def __post_init__(self) -> None:
        edges = tuple(float(e) for e in self.edges)
        if not edges or not np.isfinite(edges).all() or not np.all(np.diff(edges) > 0):
            raise TokenError(
                "bin edges must be finite, distinct and increasing",
                where="data.bin_edges",
                found=str(list(edges)),
            )
        if self.quantiles is not None and (self.quantiles < 1 or len(edges) > 1):
            raise TokenError(
                "quantile bins need a number of bins and one threshold",
                where="data.n_bins",
                found=f"{self.quantiles} bins, edges {list(edges)}",
            )
        object.__setattr__(self, "edges", edges)

    @classmethod
    def of(cls, binning: Binning, bin_edges: Sequence[float], n_bins: int | None = None) -> Bins:
        """Bins as the configuration names them.

        "fixed" takes `bin_edges` as they are; "equal" makes `n_bins` edges at equal distances from
        the first of `bin_edges` to the last, so that the last bin is open; "quantile" cuts each
        cell's values of at least `bin_edges[0]` into `n_bins`.

        Raises
        ------
        TokenError
            For an unknown `binning`, a missing or needless `n_bins`, or unfit edges.
        """
        if binning not in get_args(Binning):
            raise TokenError(
                f"unknown binning {binning!r}",
                where="data.binning",
                expected=f"one of {', '.join(get_args(Binning))}",
            )
        given = cls(tuple(bin_edges))
        if given.threshold <= 0:  # genes that are not stored are 0, and must lie below it
            raise TokenError(
                "the first bin edge must be positive",
                where="data.bin_edges",
                found=str(list(given.edges)),
            )
        if (n_bins is None) is not (binning == "fixed"):
            raise TokenError(
                "is for equal and quantile bins" if n_bins else f"{binning} bins need a number",
                where="data.n_bins",
                found=str(n_bins),
                fix="fixed bins are counted by data.bin_edges",
            )
        if n_bins is None:
            return given
        if binning == "quantile":
            return cls(given.edges[:1], n_bins)
        if n_bins < 2 or len(given.edges) < 2:
            raise TokenError(
                "equal bins need a range and at least two bins",
                where="data.bin_edges",
                found=f"{list(given.edges)}, n_bins {n_bins}",
            )
        return cls(tuple(np.linspace(given.edges[0], given.edges[-1], n_bins).tolist()))

    def __len__(self) -> int:
        """Number of bins of expressed values."""
        return self.quantiles or len(self.edges)

    @property
    def threshold(self) -> float:
        """The lowest expressed value."""
        return self.edges[0]

    def assign(self, matrix_ng: sparse.csr_matrix) -> np.ndarray:
        """(stored values,) integer: the bin of each; 0 is not expressed."""
        bins = _digitize(matrix_ng.data, self.edges)
        return bins if self.quantiles is None else _by_rank(matrix_ng, bins > 0, self.quantiles)


def _digitize(data: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Number of edges at or below each value, as `numpy.digitize` in float64.

    A float32 value reaches an edge if it reaches the lowest float32 that is not below the edge, so
    the values need not be widened.
    """
    bins: np.ndarray
    if data.dtype != np.float32:
        bins = np.digitize(data, edges)
        return bins
    low = np.array(edges, dtype=np.float32)
    low = np.where(low < np.array(edges), np.nextafter(low, np.float32(np.inf)), low)
    if len(edges) > FEW_EDGES:
        return np.searchsorted(low, data, side="right")
    bins = (data >= low[0]).view(np.uint8)
    for edge in low[1:]:
        bins += (data >= edge).view(np.uint8)
    return bins


def _by_rank(matrix_ng: sparse.csr_matrix, expressed: np.ndarray, n_bins: int) -> np.ndarray:
    """1 + floor(n_bins * share of the cell's expressed values that are lower); ties together."""
    bins = np.zeros(matrix_ng.nnz, dtype=np.int64)
    for start, stop in pairwise(matrix_ng.indptr):
        at = start + np.flatnonzero(expressed[start:stop])
        value = matrix_ng.data[at]
        if value.size:
            # At least t values are lower than x if the t-th lowest is.
            n_lower_b = -(-value.size * np.arange(1, n_bins) // n_bins)
            bins[at] = 1 + np.searchsorted(np.sort(value)[n_lower_b - 1], value, side="left")
    return bins
