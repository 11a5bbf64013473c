"""Read the wanted cells of files or of an AnnData into memory."""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd

from gradgene.cells.cells import Cells
from gradgene.cells.files import matrix_of, rows_of
from gradgene.cells.joining import file_genes
from gradgene.cells.labels import as_labels
from gradgene.cells.schema import CellQuery, CellSchema
from gradgene.cells.shards import (
    CellShards,
    missing_notes,
    wanted_columns,
    wanted_rows,
    without_empty,
)
from gradgene.cells.values import check_values

__all__ = ["cells_from_anndata", "read_cells"]


def read_cells(
    path: str | Sequence[str], schema: CellSchema, query: CellQuery | None = None
) -> Cells:
    """Read the cells that `query` wants, of one or several files; as `CellShards.open`.

    Raises
    ------
    CellsError, LabelError
        For a missing or unreadable file, a missing column or label, no cell left, wrong values.
    """
    return CellShards.open(path, schema, query).load()


def cells_from_anndata(
    adata: ad.AnnData,
    schema: CellSchema,
    query: CellQuery | None = None,
    *,
    where: str = "AnnData",
) -> Cells:
    """Take the wanted cells out of an AnnData, in memory or backed.

    Raises
    ------
    CellsError, LabelError
        As `read_cells`.
    """
    query = query or CellQuery()
    columns = wanted_columns(list(map(str, adata.obs.columns)), schema, query, where)
    obs = pd.DataFrame({c: as_labels(adata.obs[c]) for c in columns}, index=adata.obs_names)
    wanted_n = wanted_rows(obs, query)
    matrix, var = matrix_of(adata, schema.layer, where)
    genes = file_genes(var, schema.gene_key, where)
    rows_n = np.flatnonzero(wanted_n)
    matrix_ng = rows_of(matrix, rows_n)
    matrix_ng.sum_duplicates()
    check_values(matrix_ng.data, schema.values, where=where)
    matrix_ng.eliminate_zeros()
    n_left_out = len(obs) - rows_n.size
    obs = obs.iloc[rows_n]
    cells = Cells(
        matrix_ng=matrix_ng,
        obs=obs.astype(object),
        genes=genes.names,
        ensembl_ids=genes.ensembl_ids,
        schema=schema,
        dropped={"filtered out": n_left_out} if n_left_out else {},
        notes=tuple(missing_notes(obs)),
    )
    return without_empty(cells, where)
