"""Nearest controls: cells of the other label that look most like the input.

Distances are Euclidean in the principal components of log-normalised expression, over the genes of
the cells given. A nearest control narrows the contrast: of all matched controls it shares the most
with the input, also of what the target label changes, so differences, and with them scores, are
smaller than against a random control, and what remains is less due to other differences of the two
cells. The same control may serve many inputs.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import scanpy as sc
from scipy.spatial.distance import cdist

from gradgene.cells import Cells, log_normalise
from gradgene.errors import PairError
from gradgene.modes import same_threads

__all__ = ["nearest_controls", "principal_components"]


@same_threads()
def principal_components(cells: Cells, n_components: int) -> np.ndarray:
    """(cells, components) float64: place of each cell in expression space.

    The log-normalised values projected on their first `n_components` principal components by
    `scanpy.pp.pca` (genes not scaled), on fewer if there are not so many cells. With at most as
    many genes the values themselves, because all components together only rotate them. The same
    cells give the same places, equal cells equal ones; nothing but these cells is looked at, so
    give the cells of one split.

    Raises
    ------
    PairError
        If a value is not finite.
    """
    values_ng = log_normalise(cells).matrix_ng.astype(np.float64)
    if not np.isfinite(values_ng.data).all():
        raise PairError("a value is NaN or infinite", where="pairs.matching=nearest")
    n, g = values_ng.shape
    if g <= n_components:
        return np.asarray(values_ng.toarray())
    if (values_ng.max(axis=0) != values_ng.min(axis=0)).nnz == 0:
        return np.zeros((n, 1))  # cells that are all alike span nothing, which the solver refuses
    k = min(n_components, n - 1)
    adata = ad.AnnData(values_ng)
    # A fixed seed: the space belongs to the cells and not to the draw.
    sc.pp.pca(adata, n_comps=k, svd_solver="arpack", random_state=0, dtype="float64")
    # Projected here, so that equal cells are at equal places to the last digit.
    return np.asarray(values_ng @ adata.varm["PCs"])


def nearest_controls(
    place_nk: np.ndarray, row: int, controls: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `n` of `controls` (ascending positions) nearest to the cell `row`, and their distances.

    Nearest first, equal ones in the order of the cells; all there are if they are fewer.
    """
    distance_c = cdist(place_nk[row : row + 1], place_nk[controls])[0]
    n = min(n, len(controls))
    # Only what is no farther than the n-th is sorted.
    near = np.flatnonzero(distance_c <= np.partition(distance_c, n - 1)[n - 1])
    near = near[np.argsort(distance_c[near], kind="stable")][:n]
    return controls[near], distance_c[near]
