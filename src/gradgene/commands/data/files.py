"""What a look at a cell file needs: labels and gene ids whole, a sample of the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import zarr
from pandas.api.types import is_float_dtype

from gradgene.cells.files import UNREADABLE, CellFile
from gradgene.cells.labels import as_labels, join_labels
from gradgene.errors import CellsError

__all__ = ["DONOR_NAMES", "SCHEMA", "FileLook", "join_obs", "look_at", "value_kind"]

#: Columns of the CELLxGENE schema that a study can be about, first in every table. An atlas has
#: hundreds of cell types and stages.
SCHEMA = ("disease", "cell_type", "tissue", "development_stage", "sex", "assay")

#: Usual names of the donor column, the surest first.
DONOR_NAMES = (
    "donor_id",
    "donor",
    "patient_id",
    "patient",
    "individual",
    "subject",
    "participant",
    "sample_id",
    "sample",
)
#: Other columns with more labels than this are ids or measurements, not phenotypes.
MAX_LABELS = 100
#: Stored values looked at in each of three places of a matrix.
SAMPLE = 20_000
#: Schema columns with this end repeat another column by its ontology id.
REPEATED = "_ontology_term_id"


@dataclass(frozen=True)
class FileLook:
    """One file as `gradgene data inspect` sees it.

    Attributes
    ----------
    path, n_cells
        The file and its number of cells.
    obs
        Its columns of labels, categorical, missing labels NaN.
    genes
        Ids of its var index.
    values
        `data.layer` -> in words, what a sample of its values is.
    """

    path: Path
    n_cells: int
    obs: pd.DataFrame
    genes: pd.Index
    values: dict[str, str]


def look_at(path: Path, donor: str | None = None) -> FileLook:
    """Read labels and gene ids of an `.h5ad` or `.zarr`, and a sample of its values.

    `donor` names a column that is kept however many labels it has.

    Raises
    ------
    CellsError
        If it is not a readable AnnData file.
    """
    try:
        with _opened(path) as store:
            kinds = {layer: value_kind(matrix) for layer, matrix in _matrices(store)}
    except UNREADABLE as error:
        raise CellsError(
            "is not a readable AnnData file",
            where=str(path),
            expected="an .h5ad or .zarr written by anndata",
            found=f"{type(error).__name__}: {error}",
        ) from error
    file = CellFile(path, next(iter(kinds), None))
    values = {layer or "null (.X)": kind for layer, kind in kinds.items()}
    obs, genes = _labels(file, donor), file.var().index.astype(str)
    return FileLook(path, len(file), obs, genes, values)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        yield zarr.open_group(path, mode="r")
    else:
        with h5py.File(path, "r") as store:
            yield store


def _matrices(store: Any) -> Iterator[tuple[str | None, Any]]:
    """Each expression matrix under the name that `data.layer` gives it."""
    if "X" in store:
        yield None, store["X"]
    for place in ("raw.X", "raw/X"):  # the first is that of anndata before 0.7
        if place in store:
            yield "raw", store[place]
    for name in store.get("layers", ()):
        yield str(name), store["layers"][name]


def value_kind(matrix: Any) -> str:
    """Say in words what the values are, from a sample at the start, middle and end.

    `matrix` is a dense array on disk, or the group of a sparse one.
    """
    stored = matrix if hasattr(matrix, "shape") else matrix["data"]
    width = int(np.prod(stored.shape[1:])) or 1
    size, take = stored.shape[0], max(1, SAMPLE // width)
    starts = sorted({0, max(0, size // 2 - take // 2), max(0, size - take)})
    pieces = [np.asarray(stored[s : s + take], dtype=np.float64).ravel() for s in starts]
    values = np.concatenate(pieces)
    if values.size == 0:
        return "no values"
    if not np.isfinite(values).all() or (values < 0).any():
        return "scaled or damaged values (negative or not finite): not usable"
    if (values == np.round(values)).all():
        return "counts (data.values=counts)"
    return "not whole numbers, none negative (data.values=lognorm)"


def _labels(file: CellFile, donor: str | None) -> pd.DataFrame:
    """Columns that can be phenotypes or donors."""
    kept = {}
    for name in file.obs_columns():
        column = file.obs([name])[name]
        donors = name == donor or name.lower() in DONOR_NAMES
        if donors or not (is_float_dtype(column) or name.endswith(REPEATED)):
            labels = as_labels(column)
            if donors or name in SCHEMA or len(labels.categories) <= MAX_LABELS:
                kept[name] = labels
    return pd.DataFrame(kept, index=range(len(file)))


def join_obs(files: Sequence[FileLook]) -> pd.DataFrame:
    """The label columns of all files one below the other; NaN where a file lacks a column."""
    names = dict.fromkeys(name for file in files for name in file.obs.columns)
    return pd.DataFrame({name: join_labels([_column(f, name) for f in files]) for name in names})


def _column(file: FileLook, name: str) -> pd.Categorical:
    if name in file.obs.columns:
        return pd.Categorical(file.obs[name])
    return as_labels(np.full(file.n_cells, None))
