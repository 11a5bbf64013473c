"""One part of an attribution store: an AnnData on disk whose scores are read gene by gene."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy import sparse
from zarr.codecs import BloscCodec, Crc32cCodec

from gradgene import __version__
from gradgene.cells.files import UNREADABLE
from gradgene.cells.labels import as_labels
from gradgene.errors import OutputError

__all__ = ["PartFacts", "StorePart", "checked_scores", "write_part"]

#: Attribute of a part's root and key in its `uns`.
OURS = "gradgene"
#: Stored entries of a chunk: 0.5 MB of scores. A gene of 200,000 cells touches one or two.
CHUNK = 131_072
#: Entries between two wanted genes below which both are read in one go: hardly a chunk more.
GAP = CHUNK
#: Stored entries read at a time (32 MB with their cells), unless one gene has more.
LONGEST = 4_000_000


@dataclass(frozen=True)
class PartFacts:
    """Where the scores of a part come from, kept in its `uns["gradgene"]`.

    Attributes
    ----------
    run
        Folder of the run.
    config_hash
        Of the settings that decide the scores.
    data
        What identifies the cells, for example the hash of their file. Parts of the same data have
        the same samples.
    model, method, importance, target
        The checkpoint explained, how, which importance the scores are, and which scalar.
    added
        UTC time of the append, ISO 8601; set by the store.
    gradgene
        Version that wrote the part.
    """

    run: str
    config_hash: str
    data: str
    model: str
    method: str
    importance: str
    target: str
    added: str = ""
    gradgene: str = __version__


class StorePart:
    """The scores of one run, on disk; no file stays open between calls.

    Read by zarr's third format only, which has no codec that runs what a file says.

    Parameters
    ----------
    path
        Folder `part-<key>-<n>.zarr`.

    Attributes
    ----------
    key
        Twelve hex digits that identify run, data and cells.
    facts
        `PartFacts`.
    shape
        (cells, genes).
    obs_columns
        Names of the obs columns.
    genes
        Names of the genes, by column.
    gene_ids
        Ensembl ids by column, empty texts where there are none.

    Raises
    ------
    OutputError
        If the part is damaged, incomplete or was not written by a store.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.key = path, path.stem.split("-")[1]
        with _readable(path):
            self._root = _opened(path)
            said = self._root.attrs[OURS]
            _require_whole(path, said["files"])
            self.facts = PartFacts(**{f.name: str(said[f.name]) for f in fields(PartFacts)})
            var = ad.io.read_elem(self._root["var"])
            self.genes = pd.Index(var.index, dtype=object)
            ids = var["ensembl_id"] if "ensembl_id" in var else pd.Series("", index=var.index)
            self.gene_ids = pd.Index(ids.astype(object).where(ids.notna(), ""), dtype=object)
            matrix = self._root["X"]
            self.shape = (int(matrix.attrs["shape"][0]), int(matrix.attrs["shape"][1]))
            self._obs = self._root["obs"]
            self.obs_columns = [str(c) for c in self._obs.attrs["column-order"]]
            if len(self.genes) != self.shape[1]:
                raise ValueError(f"{len(self.genes)} genes for {self.shape[1]} columns")

    def __len__(self) -> int:
        return self.shape[0]

    def cell_names(self) -> np.ndarray:
        """(cells,) names of the cells."""
        with _readable(self.path):
            index = self._obs[self._obs.attrs["_index"]]
            names = np.asarray(ad.io.read_elem(index), dtype=object)
            if len(names) != len(self):
                raise ValueError(f"{len(names)} names for {len(self)} cells")
        return names

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Those of these obs columns that the part has; labels are categorical."""
        with _readable(self.path):
            read = {c: ad.io.read_elem(self._obs[c]) for c in columns if c in self.obs_columns}
            return pd.DataFrame(read, index=pd.RangeIndex(len(self)))

    def columns_of(self, names: Sequence[str]) -> np.ndarray:
        """(names,) column of each gene, by its name or else its Ensembl id; -1 where there is none.

        Of an Ensembl id that several columns share, the first is meant.
        """
        place = {str(i): n for n, i in reversed(list(enumerate(self.gene_ids))) if i}
        place.update({str(g): n for n, g in enumerate(self.genes)})
        return np.array([place.get(name, -1) for name in names], dtype=np.int64)

    def weighted_sum(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(cells,) float64 sum over `columns` (k,) of their scores times `weights` (k,).

        Only these columns are read; absent entries are 0.
        """
        total_n = np.zeros(len(self))
        order = np.argsort(columns)
        columns, weights = columns[order], weights[order]
        with _readable(self.path):
            indptr, indices, data = (self._root[f"X/{k}"] for k in ("indptr", "indices", "data"))
            indptr, n_stored = indptr[...], data.shape[0]
            if len(indptr) != self.shape[1] + 1 or indptr[0] != 0 or indptr[-1] != n_stored:
                raise ValueError(f"pointers do not divide {n_stored} values")
            if (np.diff(indptr) < 0).any():
                raise ValueError("pointers decrease")
            starts, ends = indptr[columns], indptr[columns + 1]
            for first, last in _runs(starts, ends):
                low, high = int(starts[first]), int(ends[last - 1])
                cells, values = indices[low:high], data[low:high]
                if len(cells) and not 0 <= cells.min() <= cells.max() < len(self):
                    raise ValueError(f"cell numbers {cells.min()} to {cells.max()}")
                for k in range(first, last):
                    mine = slice(int(starts[k]) - low, int(ends[k]) - low)
                    # A cell occurs once in a column, so that plain indexing adds all of it.
                    total_n[cells[mine]] += weights[k] * values[mine].astype(np.float64)
        return total_n

    def require_present(self) -> None:
        """Raise `OutputError` if the part was dropped since: missing chunks read as zeros."""
        if not (self.path / "zarr.json").is_file():
            raise OutputError(
                "was dropped or replaced while it was read",
                where=str(self.path),
                fix="ask again",
            )


def checked_scores(
    scores_ng: Any, obs: pd.DataFrame, var: pd.DataFrame
) -> tuple[sparse.csc_matrix, pd.DataFrame, pd.DataFrame]:
    """The scores as sorted CSC of float32, and both tables with labels that can be stored.

    Raises
    ------
    OutputError
        If the shapes do not agree, a name is missing or occurs twice, or a score is not finite.
    """
    with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
        scores = sparse.csc_matrix(scores_ng, dtype=np.float32, copy=True)
    scores.sum_duplicates()
    scores.eliminate_zeros()
    tables = []
    for what, table, n in zip(("cells", "genes"), (obs, var), scores.shape, strict=True):
        if len(table) != n:
            raise OutputError(f"{n} {what} of scores, but {len(table)} names", where=what)
        names = pd.Index([str(name) for name in table.index], dtype=object)
        if not n or not names.is_unique or (names == "").any():
            twice = names[names.duplicated()][:3].tolist()
            raise OutputError(
                f"need unique names of {what}", where=what, found=str(twice or names[:3].tolist())
            )
        odd = [c for c in table.columns if not isinstance(c, str) or not c or "/" in c]
        if odd or not table.columns.is_unique or "_index" in table.columns:
            raise OutputError(
                f"columns of {what} cannot be stored under their names",
                where=what,
                expected="distinct texts without '/'",
                found=str(odd or list(table.columns)),
            )
        columns = {str(c): _storable(table[c]) for c in table.columns}
        tables.append(pd.DataFrame(columns, index=names))
    if not np.isfinite(scores.data).all():
        bad = int(np.flatnonzero(~np.isfinite(scores.data))[0])
        gene = int(np.searchsorted(scores.indptr, bad, side="right")) - 1
        raise OutputError(
            "a score is NaN or infinite",
            where=f"cell {tables[0].index[scores.indices[bad]]!r}",
            found=f"gene {tables[1].index[gene]!r}",
        )
    return scores, tables[0], tables[1]


def write_part(
    path: Path,
    scores: sparse.csc_matrix,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    facts: PartFacts,
) -> None:
    """Write a part that plain `anndata.read_zarr` opens, on disk when this returns.

    Parameters
    ----------
    path
        The new folder.
    scores, obs, var
        As `checked_scores` gives them.
    facts
        Goes to `uns["gradgene"]`.
    """
    root = zarr.open_group(path, mode="w", zarr_format=3)
    adata = ad.AnnData(None, obs=obs, var=var, uns={OURS: asdict(facts)})
    with warnings.catch_warnings():
        # anndata announces another default for files; ours set nothing and are as readable.
        warnings.filterwarnings("ignore", message="zarr v3 autosharding will be the default")
        ad.io.write_elem(root, "/", adata)
    shape = [int(n) for n in scores.shape]
    encoding = {"encoding-type": "csc_matrix", "encoding-version": "0.1.0", "shape": shape}
    matrix = root.create_group("X", attributes=encoding, overwrite=True)
    arrays = (
        ("data", scores.data),
        ("indices", scores.indices.astype(np.int32, copy=False)),
        ("indptr", scores.indptr.astype(np.int64)),
    )
    for name, values in arrays:
        array = matrix.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(CHUNK,),
            compressors=[BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()],
        )
        array[...] = values
    # Once more, and with what tells whether all of it is there: read in one go with the root.
    root.attrs[OURS] = {**asdict(facts), "files": list(_tally(path))}
    for file in path.rglob("*"):
        _flush(file)
    _flush(path)


def _opened(path: Path) -> Any:
    """The root group, which zarr types as loosely as attributes."""
    return zarr.open_group(path, mode="r", zarr_format=3)


def _storable(column: pd.Series) -> Any:
    if is_bool_dtype(column.dtype) or is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=None if isinstance(column.dtype, np.dtype) else float)
    return as_labels(column)


def _tally(path: Path) -> tuple[int, int]:
    """Number of files below `path` and their bytes, without its own `zarr.json`."""
    count = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            if not name.startswith(".") and (folder, name) != (str(path), "zarr.json"):
                count, size = count + 1, size + os.stat(os.path.join(folder, name)).st_size
    return count, size


def _require_whole(path: Path, written: list[int]) -> None:
    """Raise `ValueError` unless every file is there: zarr reads a missing chunk as zeros."""
    found = list(_tally(path))
    if written != found:
        raise ValueError(f"{found[0]} files of {found[1]} bytes, {written[0]} of {written[1]} were")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _runs(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of wanted columns that lie so close together that one read fetches them."""
    bounds = [0]
    for k in range(1, len(starts)):
        near = starts[k] - ends[k - 1] < GAP
        if not (near and ends[k] - starts[bounds[-1]] <= LONGEST):
            bounds.append(k)
    return ((a, b) for a, b in pairwise([*bounds, len(starts)]) if a < b)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what zarr and anndata raise for a damaged part into one line."""
    try:
        yield
    except UNREADABLE as error:
        raise OutputError(
            "is not a readable part of a store",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix="drop it with `gradgene query drop`, and add its run again",
        ) from error
