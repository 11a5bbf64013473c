"""Choose the genes a model sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradgene.cells.cells import Cells
from gradgene.errors import CellsError

__all__ = ["choose_genes"]


def choose_genes(cells: Cells, genes: int | str | None) -> tuple[str, ...]:
    """Names of the genes of the model, in the order of the cells' columns.

    Parameters
    ----------
    cells
        Training cells only, so that the choice cannot see held-out donors.
    genes
        None for every gene seen in them; n for the n genes of highest variance of log1p values (of
        counts where the cells hold counts); a file name for one gene a line.

    Raises
    ------
    CellsError
        For a missing file or a number below 1.
    """
    if isinstance(genes, str):
        file = Path(genes).expanduser()
        if not file.is_file():
            raise CellsError(f"no such gene list: {file}", where="data.genes")
        wanted = {line.strip() for line in file.read_text().splitlines() if line.strip()}
        known = tuple(name for name in cells.genes if name in wanted)
        if not known:
            raise CellsError(f"no gene of {file} is in the cells", where="data.genes")
        return known
    values_ng = cells.matrix_ng.astype(np.float64)
    if cells.schema.values == "counts":
        values_ng.data = np.log1p(values_ng.data)
    mean_g = np.asarray(values_ng.mean(axis=0)).ravel()
    variance_g = np.asarray(values_ng.multiply(values_ng).mean(axis=0)).ravel() - mean_g**2
    seen = np.flatnonzero(mean_g > 0)
    if genes is None:
        return tuple(cells.genes[i] for i in seen)
    if genes < 1:
        raise CellsError(f"asks for {genes} genes", where="data.genes", expected="1 or more")
    # A stable sort keeps ties in column order, so that the panel never depends on the platform.
    best = seen[np.argsort(-variance_g[seen], kind="stable")[:genes]]
    return tuple(cells.genes[i] for i in np.sort(best))
