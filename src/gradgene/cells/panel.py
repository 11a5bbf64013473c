"""Choose the genes a model sees."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from gradgene.cells.cells import Cells, log_normalise
from gradgene.errors import CellsError
from gradgene.modes import same_threads

__all__ = ["choose_genes"]


def choose_genes(cells: Cells, genes: int | str | None) -> tuple[str, ...]:
    """Names of the genes of the model, in the order of the cells' columns.

    Parameters
    ----------
    cells
        Training cells only, so that the choice cannot see held-out donors, with all their genes. Of
        shards too many to hold, a random sample of training cells serves (some 10,000 do).
    genes
        None for every gene seen in them; n for the n most variable of those by scanpy's normalised
        dispersion (`highly_variable_genes`, flavor "seurat") on log-normalised cells; a file name
        for one gene a line.

    Raises
    ------
    CellsError
        For a missing file, a file without a known gene, or a number below 1.
    """
    if isinstance(genes, str):
        return _listed(cells, genes)
    seen = np.flatnonzero(np.asarray(cells.matrix_ng.sum(axis=0)).ravel() > 0)
    if genes is not None:
        if genes < 1:
            raise CellsError(f"asks for {genes} genes", where="data.genes", expected="1 or more")
        if genes < seen.size:
            # A stable sort keeps ties in column order: the panel never depends on the platform.
            order = np.argsort(-_dispersion(cells)[seen], kind="stable")
            seen = np.sort(seen[order[:genes]])
    return tuple(cells.genes[i] for i in seen)


def _listed(cells: Cells, name: str) -> tuple[str, ...]:
    file = Path(name).expanduser()
    if not file.is_file():
        raise CellsError(f"no such gene list: {file}", where="data.genes")
    wanted = {line.strip() for line in file.read_text().splitlines() if line.strip()}
    known = tuple(name for name in cells.genes if name in wanted)
    if not known:
        raise CellsError(f"no gene of {file} is in the cells", where="data.genes")
    return known


@same_threads()
def _dispersion(cells: Cells) -> np.ndarray:
    """(genes,) scanpy's normalised dispersion; a gene that has none is the least variable."""
    adata = ad.AnnData(
        log_normalise(cells).matrix_ng,
        var=pd.DataFrame(index=pd.Index(cells.genes, dtype=object)),
    )
    sc.pp.highly_variable_genes(adata, flavor="seurat")
    dispersion_g = adata.var["dispersions_norm"].to_numpy(dtype=float)
    return np.where(np.isfinite(dispersion_g), dispersion_g, -np.inf)
