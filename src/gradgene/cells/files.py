"""One cell file on disk: what it holds, and the rows of its matrix that are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.abc import CSCDataset
from scipy import sparse

from gradgene.errors import CellsError, closest

__all__ = ["UNREADABLE", "CellFile", "matrix_of", "rows_of"]

#: Rows (or columns of a column store) of a dense or in-memory matrix converted at a time.
BLOCK = 4096
#: Stored entries read at a time: 8 million are 64 MB.
LONGEST = 8_000_000
#: Entries between two wanted rows below which both are read in one go: cheaper than a second read.
GAP = 8192

#: What h5py, zarr and anndata raise for files that are damaged or no AnnData.
UNREADABLE = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError)


class CellFile:
    """The obs, var and one matrix of an `.h5ad` or `.zarr` written by anndata.

    Nothing stays open between calls, so that it can be sent to workers and other ranks as it is.
    Only the row pointers of the matrix stay in memory. A file of anndata before 0.7 is read whole.

    Parameters
    ----------
    path
        The file.
    layer
        None for `.X`, "raw" for `.raw`, otherwise a layer's name.

    Raises
    ------
    CellsError
        If the file is not AnnData or has no such matrix.
    """

    def __init__(self, path: Path, layer: str | None = None) -> None:
        self.path, self.layer = path, layer
        self.old: ad.AnnData | None = None
        self.indptr: np.ndarray | None = None
        with self._open() as root:
            if not _is_modern(root):
                self.old = _read_old(path)
                return
            self.key = _matrix_key(root, layer, str(path))
            self.kind, self.shape = _kind_and_shape(root[self.key])
            if self.kind != "dense":
                self.indptr = np.asarray(root[self.key]["indptr"][...])
                _require_pointers(
                    self.indptr, self.kind, self.shape, root[self.key]["data"].shape[0]
                )

    def __len__(self) -> int:
        return len(self.old) if self.old is not None else self.shape[0]

    @property
    def by_gene(self) -> bool:
        """Whether the matrix is stored by gene (CSC), so that reading cells scans all of it."""
        return self.old is None and self.kind == "csc"

    def obs_columns(self) -> list[str]:
        """Names of the obs columns, in their order."""
        if self.old is not None:
            return [str(c) for c in self.old.obs.columns]
        with self._open() as root:
            return [str(c) for c in root["obs"].attrs["column-order"]]

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """These obs columns as they are in the file, indexed by cell name."""
        if self.old is not None:
            return pd.DataFrame(self.old.obs[list(columns)])
        with self._open() as root:
            group = root["obs"]
            index = ad.io.read_elem(group[group.attrs["_index"]])
            read = {c: ad.io.read_elem(group[c]) for c in columns}
            if len(index) != len(self):
                raise ValueError(f"{len(index)} rows of obs for {len(self)} of the matrix")
        return pd.DataFrame(read, index=pd.Index(index, dtype=object))

    def var(self) -> pd.DataFrame:
        """The var table that belongs to the matrix."""
        if self.old is not None:
            return matrix_of(self.old, self.layer, str(self.path))[1]
        with self._open() as root:
            frame: pd.DataFrame = ad.io.read_elem(root["raw/var" if self.layer == "raw" else "var"])
            if len(frame) != self.shape[1]:
                raise ValueError(f"{len(frame)} rows of var for {self.shape[1]} columns")
        return frame

    def stored(self) -> np.ndarray:
        """(rows of the file,) number of stored entries, an upper bound of the expressed genes.

        Read off the row pointers of a CSR matrix; other layouts are scanned once, block by block.
        """
        if self.old is not None:
            return np.diff(self.rows(np.arange(len(self))).indptr)
        if self.kind == "csr":
            assert self.indptr is not None
            return np.diff(self.indptr)
        stored_n = np.zeros(len(self), dtype=np.int64)
        with self._open() as root:
            if self.kind == "csc":
                for part in _slices(root[self.key]["indices"].shape[0], LONGEST):
                    rows = root[self.key]["indices"][part]
                    stored_n += np.bincount(rows, minlength=len(self))
            else:
                for part in _slices(len(self), BLOCK):
                    stored_n[part] = np.count_nonzero(root[self.key][part], axis=1)
        return stored_n

    def rows(self, rows_n: np.ndarray) -> sparse.csr_matrix:
        """(rows, genes of the file) CSR float32 of these rows, ascending and distinct."""
        if self.old is not None:
            return rows_of(matrix_of(self.old, self.layer, str(self.path))[0], rows_n)
        with self._open() as root:
            matrix = root[self.key]
            if self.kind == "csr":
                return self._from_row_store(matrix, rows_n)
            if self.kind == "csc":
                return self._from_column_store(matrix, rows_n)
            return rows_of(matrix, rows_n)

    def _from_row_store(self, matrix: Any, rows_n: np.ndarray) -> sparse.csr_matrix:
        assert self.indptr is not None
        starts, ends = self.indptr[rows_n], self.indptr[rows_n + 1]
        indptr = np.concatenate([[0], np.cumsum(ends - starts)])
        indices = np.empty(indptr[-1], dtype=np.int32)
        data = np.empty(indptr[-1], dtype=np.float32)
        on_disk = matrix["indices"], matrix["data"]
        for first, last in _runs(starts, ends, max(GAP, _chunk(on_disk[1]))):
            low, high = int(starts[first]), int(ends[last - 1])
            into = slice(int(indptr[first]), int(indptr[last]))
            wanted: slice | np.ndarray = slice(None)
            if high - low != into.stop - into.start:  # rows in between are not wanted
                lengths = np.diff(indptr[first : last + 1])
                shift = np.repeat(starts[first:last] - low - indptr[first:last], lengths)
                wanted = shift + np.arange(into.start, into.stop)
            indices[into], data[into] = (array[low:high][wanted] for array in on_disk)
        if indices.size and not 0 <= indices.min() <= indices.max() < self.shape[1]:
            raise ValueError(f"column indices {indices.min()} to {indices.max()}")
        return sparse.csr_matrix((data, indices, indptr), shape=(len(rows_n), self.shape[1]))

    def _from_column_store(self, matrix: Any, rows_n: np.ndarray) -> sparse.csr_matrix:
        assert self.indptr is not None
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows_n] = np.arange(len(rows_n))
        found = []
        for part in _slices(int(self.indptr[-1]), LONGEST):
            row = place[matrix["indices"][part]]
            kept = np.flatnonzero(row >= 0)
            column = np.searchsorted(self.indptr, kept + part.start, side="right") - 1
            data = np.asarray(matrix["data"][part][kept], dtype=np.float32)
            found.append((row[kept], column, data))
        row, column, data = (
            (np.concatenate(parts) for parts in zip(*found, strict=True))
            if found
            else (np.zeros(0, int), np.zeros(0, int), np.zeros(0, np.float32))
        )
        return sparse.csr_matrix((data, (row, column)), shape=(len(rows_n), self.shape[1]))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The root group, open for reading."""
        root = None
        try:
            is_folder = self.path.is_dir()
            root = zarr.open_group(self.path, mode="r") if is_folder else h5py.File(self.path, "r")
            yield root
        except UNREADABLE as error:
            raise CellsError(
                "is not a readable AnnData file",
                where=str(self.path),
                expected="an .h5ad or .zarr written by anndata",
                found=f"{type(error).__name__}: {error}",
            ) from error
        finally:
            if isinstance(root, h5py.File):
                root.close()


def matrix_of(adata: ad.AnnData, layer: str | None, where: str) -> tuple[Any, pd.DataFrame]:
    """The matrix of an AnnData that `layer` names, with its var table.

    Raises
    ------
    CellsError
        If there is no such matrix.
    """
    if layer is None:
        empty = adata.isbacked and "X" not in adata.file
        matrix, var = None if empty else adata.X, adata.var
    elif layer == "raw":
        if adata.raw is None:
            raise _no_raw(where)
        matrix, var = adata.raw.X, adata.raw.var
    elif layer in adata.layers:
        matrix, var = adata.layers[layer], adata.var
    else:
        raise _no_layer(layer, [*adata.layers], adata.raw is not None, where)
    if matrix is None:
        raise _no_matrix(where)
    return matrix, var


def rows_of(matrix: Any, rows_n: np.ndarray) -> sparse.csr_matrix:
    """Rows of a CSR, CSC or dense matrix (in memory or on disk) as one CSR of float32."""
    if isinstance(matrix, CSCDataset):  # a column store: rows are cheap only column-wise
        blocks = [
            sparse.csc_matrix(matrix[:, s]).tocsr()[rows_n] for s in _slices(matrix.shape[1], BLOCK)
        ]
        return sparse.csr_matrix(sparse.hstack(blocks, format="csr"), dtype=np.float32)
    blocks = []
    for part in _slices(matrix.shape[0], BLOCK):
        inside = rows_n[(rows_n >= part.start) & (rows_n < part.stop)]
        if inside.size:
            low, high = int(inside[0]), int(inside[-1]) + 1
            blocks.append(sparse.csr_matrix(matrix[low:high])[inside - low])
    if not blocks:
        return sparse.csr_matrix((0, matrix.shape[1]), dtype=np.float32)
    return sparse.csr_matrix(sparse.vstack(blocks, format="csr"), dtype=np.float32)


def _is_modern(root: Any) -> bool:
    """Whether tables are stored column by column, as anndata does since 0.7."""
    tables = [root["obs"], root["var"]]
    return all(getattr(t, "attrs", {}).get("encoding-version") == "0.2.0" for t in tables)


def _read_old(path: Path) -> ad.AnnData:
    with warnings.catch_warnings():
        for notice in (FutureWarning, PendingDeprecationWarning):  # of old file layouts
            warnings.simplefilter("ignore", notice)
        warnings.simplefilter("ignore", UserWarning)  # names are checked by `Cells`
        return ad.read_zarr(path) if path.is_dir() else ad.read_h5ad(path)


def _matrix_key(root: Any, layer: str | None, where: str) -> str:
    if layer is None:
        key = "X"
    elif layer == "raw":
        if "raw" not in root:
            raise _no_raw(where)
        key = "raw/X"
    else:
        layers = [str(name) for name in root["layers"]] if "layers" in root else []
        if layer not in layers:
            raise _no_layer(layer, layers, "raw" in root, where)
        key = f"layers/{layer}"
    if key not in root:
        raise _no_matrix(where)
    return key


def _kind_and_shape(matrix: Any) -> tuple[Literal["csr", "csc", "dense"], tuple[int, int]]:
    if not hasattr(matrix, "keys"):
        return "dense", (int(matrix.shape[0]), int(matrix.shape[1]))
    backed = ad.io.sparse_dataset(matrix)
    return backed.format, (int(backed.shape[0]), int(backed.shape[1]))


def _require_pointers(indptr: np.ndarray, kind: str, shape: tuple[int, int], nnz: int) -> None:
    """Raise `ValueError` unless the pointers divide `nnz` values into rows (CSC: columns)."""
    n = shape[0] if kind == "csr" else shape[1]
    if len(indptr) != n + 1 or indptr[0] != 0 or indptr[-1] != nnz:
        raise ValueError(f"pointers do not divide {nnz} values into {n} parts")
    if (np.diff(indptr) < 0).any():
        raise ValueError("pointers decrease")


def _chunk(array: Any) -> int:
    """Entries that are read from disk together anyway."""
    return int(array.chunks[0]) if array.chunks else 0


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _runs(starts: np.ndarray, ends: np.ndarray, gap: int) -> Iterator[tuple[int, int]]:
    """Ranges of wanted rows that lie so close together that one read fetches them."""
    apart = (starts[1:] - ends[:-1] > gap) | (starts[1:] // LONGEST != starts[:-1] // LONGEST)
    bounds = [0, *(np.flatnonzero(apart) + 1).tolist(), len(starts)]
    return ((a, b) for a, b in pairwise(bounds) if a < b)


def _no_raw(where: str) -> CellsError:
    return CellsError("has no .raw", where=where, fix="set data.layer=null or a layer name")


def _no_layer(layer: str, layers: list[str], raw: bool, where: str) -> CellsError:
    return CellsError(
        f"has no layer {layer!r}",
        where=where,
        expected=f"one of {closest(layer, [*layers, *(['raw'] if raw else [])])} or null for .X",
        fix="correct data.layer",
    )


def _no_matrix(where: str) -> CellsError:
    return CellsError("holds no expression matrix", where=where, fix="set data.layer")
