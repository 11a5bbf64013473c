"""Read the wanted cells of an `.h5ad` file, block by block, never the whole matrix."""

from __future__ import annotations

import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata.abc import CSCDataset
from scipy import sparse

from gradgene.cells.cells import Cells
from gradgene.cells.schema import CellQuery, CellSchema, require_label
from gradgene.cells.values import check_values
from gradgene.errors import CellsError, LabelError, closest

__all__ = ["cells_from_anndata", "read_cells", "resolve_path"]

BUNDLED = {"pbmc68k": "10x_pbmc68k_reduced.h5ad"}
BLOCK = 4096


def resolve_path(path: str) -> Path:
    """Turn `data.path` into a file; `bundled:pbmc68k` is the copy that scanpy ships.

    Raises
    ------
    CellsError
        If the file does not exist or a bundled name is unknown.
    """
    if path.startswith("bundled:"):
        name = path.removeprefix("bundled:")
        if name not in BUNDLED:
            raise CellsError(
                f"no bundled data set {name!r}",
                where="data.path",
                expected=f"one of {closest(name, BUNDLED)}",
            )
        return Path(str(resources.files("scanpy.datasets").joinpath(BUNDLED[name])))
    file = Path(path).expanduser()
    if not file.is_file():
        near = sorted(p.name for p in file.parent.glob("*.h5ad")) if file.parent.is_dir() else []
        raise CellsError(
            f"no such file: {file}",
            where="data.path",
            found=f"in {file.parent}: {closest(file.name, near)}" if near else None,
            fix="give the path of an .h5ad file (relative paths start at the working directory)",
        )
    return file


def read_cells(path: str, schema: CellSchema, query: CellQuery | None = None) -> Cells:
    """Read the cells of `path` that `query` wants.

    Raises
    ------
    CellsError, LabelError
        For a missing or unreadable file, a missing column or label, no cell left, wrong values.
    """
    file = resolve_path(path)
    try:
        with warnings.catch_warnings():
            for notice in (FutureWarning, PendingDeprecationWarning):  # of old file layouts
                warnings.simplefilter("ignore", notice)
            warnings.simplefilter("ignore", UserWarning)  # names are checked by `Cells`
            backed = ad.read_h5ad(file, backed="r")
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CellsError(
            "is not a readable AnnData file",
            where=str(file),
            expected="an .h5ad file written by anndata",
            found=f"{type(error).__name__}: {error}",
        ) from error
    try:
        return cells_from_anndata(backed, schema, query, where=str(path))
    finally:
        backed.file.close()


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
    obs = _columns(adata.obs, schema, query, where)
    rows_n = np.flatnonzero(_wanted(obs, query))
    if rows_n.size == 0:
        raise CellsError(
            "no cell matches the filters",
            where="study.filters",
            expected=f"at least one of {len(obs)} cells with {dict(query.filters)}",
            fix="loosen study.filters",
        )
    matrix, var = _matrix(adata, schema, where)
    matrix_ng = _rows(matrix, rows_n)
    matrix_ng.sum_duplicates()
    check_values(matrix_ng.data, schema.values, where=where)
    matrix_ng.eliminate_zeros()
    filled_n = np.diff(matrix_ng.indptr) > 0
    dropped = {"filtered out": len(obs) - rows_n.size, "all-zero": int((~filled_n).sum())}
    if not filled_n.any():
        raise CellsError("every cell that matches the filters is all-zero", where=where)
    return Cells(
        matrix_ng=matrix_ng[filled_n],
        obs=obs.iloc[rows_n[filled_n]],
        genes=_gene_names(var, schema, where),
        ensembl_ids=_ensembl_ids(var),
        schema=schema,
        dropped={k: v for k, v in dropped.items() if v},
    )


def _columns(obs: pd.DataFrame, schema: CellSchema, query: CellQuery, where: str) -> pd.DataFrame:
    """The columns the study needs, labels as plain strings, missing labels as NaN."""
    wanted = [*schema.phenotypes, *([schema.donor] if schema.donor else []), *query.filters]
    for column in wanted:
        if column not in obs.columns:
            raise LabelError(
                f"has no obs column {column!r}",
                where=where,
                expected=f"one of {closest(column, obs.columns, n=30)}",
                fix="correct data.phenotypes, study.donor or study.filters",
            )
    frame = obs[list(dict.fromkeys(wanted))]
    labels: pd.DataFrame = frame.apply(
        lambda column: column.astype(object).map(_label, na_action="ignore")
    )
    return labels


def _label(value: object) -> str:
    """A label as text; a whole number that a gap in its column turned into 1015.0 is 1015."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _wanted(obs: pd.DataFrame, query: CellQuery) -> np.ndarray:
    keep_n = np.ones(len(obs), dtype=bool)
    for column, labels in query.filters.items():
        counts = {str(k): int(v) for k, v in obs[column].value_counts().items() if v}
        for label in labels:
            require_label(label, counts, column=column, where="study.filters")
        keep_n &= obs[column].isin(labels).to_numpy()
    return keep_n


def _matrix(adata: ad.AnnData, schema: CellSchema, where: str) -> tuple[Any, pd.DataFrame]:
    if schema.layer is None:
        empty = adata.isbacked and "X" not in adata.file
        matrix, var = None if empty else adata.X, adata.var
    elif schema.layer == "raw":
        if adata.raw is None:
            raise CellsError("has no .raw", where=where, fix="set data.layer=null or a layer name")
        matrix, var = adata.raw.X, adata.raw.var
    elif schema.layer in adata.layers:
        matrix, var = adata.layers[schema.layer], adata.var
    else:
        layers = [*adata.layers, *(["raw"] if adata.raw is not None else [])]
        raise CellsError(
            f"has no layer {schema.layer!r}",
            where=where,
            expected=f"one of {closest(schema.layer, layers)} or null for .X",
            fix="correct data.layer",
        )
    if matrix is None:
        raise CellsError("holds no expression matrix", where=where, fix="set data.layer")
    return matrix, var


def _rows(matrix: Any, rows_n: np.ndarray) -> sparse.csr_matrix:
    """Rows of a CSR, CSC or dense matrix (in memory or on disk) as one CSR of float32."""
    if isinstance(matrix, CSCDataset):  # a column store: rows are cheap only column-wise
        blocks = [
            sparse.csc_matrix(matrix[:, start : start + BLOCK]).tocsr()[rows_n]
            for start in range(0, matrix.shape[1], BLOCK)
        ]
        return sparse.csr_matrix(sparse.hstack(blocks, format="csr"), dtype=np.float32)
    blocks = []
    for start in range(0, matrix.shape[0], BLOCK):
        inside = rows_n[(rows_n >= start) & (rows_n < start + BLOCK)] - start
        if inside.size:
            blocks.append(sparse.csr_matrix(matrix[start : start + BLOCK])[inside])
    return sparse.csr_matrix(sparse.vstack(blocks, format="csr"), dtype=np.float32)


def _gene_names(var: pd.DataFrame, schema: CellSchema, where: str) -> tuple[str, ...]:
    if schema.gene_key is None:
        return tuple(map(str, var.index))
    if schema.gene_key not in var.columns:
        raise CellsError(
            f"has no var column {schema.gene_key!r}",
            where=where,
            expected=f"one of {closest(schema.gene_key, var.columns)} or null for the var index",
            fix="correct data.gene_key",
        )
    return tuple(map(str, var[schema.gene_key]))


def _ensembl_ids(var: pd.DataFrame) -> tuple[str, ...]:
    """Ensembl ids from the index or the usual columns; "" where there is none."""
    if len(var) and var.index.astype(str).str.startswith("ENS").mean() > 0.5:
        return tuple(map(str, var.index))
    for column in ("ensembl_id", "gene_ids", "feature_id"):
        if column in var.columns:
            return tuple("" if pd.isna(v) else str(v) for v in var[column])
    return ("",) * len(var)
