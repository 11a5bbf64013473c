"""Cells of one or several files, opened lazily and joined by gene id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells.cells import Cells
from gradgene.cells.files import CellFile
from gradgene.cells.joining import file_genes, join_genes
from gradgene.cells.labels import as_labels, join_labels
from gradgene.cells.paths import resolve_paths
from gradgene.cells.schema import CellQuery, CellSchema, require_label
from gradgene.cells.values import check_values
from gradgene.errors import CellsError, LabelError, closest

__all__ = ["CellShards", "missing_notes", "wanted_columns", "wanted_rows", "without_empty"]


@dataclass(frozen=True)
class CellShards:
    """The wanted cells of one or several files, none of whose matrices is in memory.

    It can be pickled: workers and ranks open the files by themselves, on every read.

    Attributes
    ----------
    files
        The files, in the order of their cells.
    obs
        One row a wanted cell, indexed by cell name; phenotypes, donor, batch and filter columns as
        categoricals, missing labels NaN. Cell names that occur in two files get the file's name in
        front.
    genes, ensembl_ids
        Names of the union of the files' genes; Ensembl ids are "" where no file has one.
    schema
        What the columns mean.
    nnz_n
        (cells,) stored entries, an upper bound of the genes each cell expresses.
    dropped
        Reason -> number of cells left out on opening.
    notes
        Sentences a reader of the report should know.
    """

    files: tuple[Path, ...]
    obs: pd.DataFrame
    genes: tuple[str, ...]
    ensembl_ids: tuple[str, ...]
    schema: CellSchema
    nnz_n: np.ndarray
    dropped: dict[str, int]
    notes: tuple[str, ...]
    _parts: tuple[_Part, ...] = field(repr=False)

    @classmethod
    def open(
        cls, path: str | Sequence[str], schema: CellSchema, query: CellQuery | None = None
    ) -> CellShards:
        """Open the files that `path` names and find the cells that `query` wants.

        Parameters
        ----------
        path
            A file, a list of files, a glob, or `bundled:pbmc68k`; `.h5ad` and `.zarr`.
        schema, query
            What the columns mean, and which cells to keep; all-zero cells are left out.

        Raises
        ------
        CellsError, LabelError
            For missing or unreadable files, genes that cannot be joined, a missing column or label,
            and if no cell is left.
        """
        query = query or CellQuery()
        paths = resolve_paths(path)
        files = [CellFile(p, schema.layer) for p in paths]
        genes = join_genes([file_genes(f.var(), schema.gene_key, str(f.path)) for f in files])
        obs = _join_obs(files, schema, query)
        wanted_n = wanted_rows(obs, query)
        stored_n = np.concatenate([f.stored() for f in files])
        kept_n = np.flatnonzero(wanted_n & (stored_n > 0))
        if kept_n.size == 0:
            raise CellsError("every cell that matches the filters is all-zero", where=_where(paths))
        dropped = {
            "filtered out": int((~wanted_n).sum()),
            "all-zero": int((wanted_n & (stored_n == 0)).sum()),
        }
        obs = obs.iloc[kept_n]
        notes = (*genes.notes, *missing_notes(obs), *_slow(files))
        return cls(
            files=paths,
            obs=obs,
            genes=genes.genes,
            ensembl_ids=genes.ensembl_ids,
            schema=schema,
            nnz_n=stored_n[kept_n].astype(np.int32),
            dropped={k: v for k, v in dropped.items() if v},
            notes=notes,
            _parts=tuple(_parts(files, genes.columns, kept_n)),
        )

    def __len__(self) -> int:
        return len(self.obs)

    def __getitem__(self, rows_n: np.ndarray) -> Cells:
        """As `read`."""
        return self.read(rows_n)

    def read(self, rows_n: np.ndarray | Sequence[int]) -> Cells:
        """The cells at integer positions `rows_n`, in that order; labels are plain strings.

        Raises
        ------
        CellsError
            For positions out of range, a file that changed, or values that are not what the schema
            says.
        """
        asked_n = np.asarray(rows_n, dtype=np.int64)
        if asked_n.size and (asked_n.min() < 0 or asked_n.max() >= len(self)):
            raise CellsError(
                "asks for cells out of range", expected=f"0 to {len(self) - 1}", found=str(rows_n)
            )
        distinct_n, place_n = np.unique(asked_n, return_inverse=True)
        matrix_ng = self._matrix(distinct_n)
        if not np.array_equal(distinct_n, asked_n):
            matrix_ng = matrix_ng[place_n]
        obs = self.obs.iloc[asked_n].astype(object)
        obs.index = obs.index.astype(object)
        return Cells(
            matrix_ng=matrix_ng,
            obs=obs,
            genes=self.genes,
            ensembl_ids=self.ensembl_ids,
            schema=self.schema,
            dropped=self.dropped,
            notes=self.notes,
        )

    def load(self) -> Cells:
        """All cells in memory; those that hold only stored zeros are left out and counted.

        Raises
        ------
        CellsError
            As `read`, and if no cell is left.
        """
        return without_empty(self.read(np.arange(len(self))), _where(self.files))

    def _matrix(self, rows_n: np.ndarray) -> sparse.csr_matrix:
        """(rows, genes) CSR float32 of these rows, ascending and distinct."""
        indptr = np.concatenate([[0], np.cumsum(self.nnz_n[rows_n], dtype=np.int64)])
        indices = np.empty(indptr[-1], dtype=np.int32)
        data = np.empty(indptr[-1], dtype=np.float32)
        firsts = np.array([part.first for part in self._parts] + [len(self)])
        bounds = np.searchsorted(rows_n, firsts)
        for part, low, high in zip(self._parts, bounds[:-1], bounds[1:], strict=True):
            if low == high:
                continue
            mine = part.file.rows(part.rows_n[rows_n[low:high] - part.first])
            if mine.nnz != indptr[high] - indptr[low]:
                raise CellsError("has changed since it was opened", where=str(part.file.path))
            check_values(mine.data, self.schema.values, where=str(part.file.path))
            indices[indptr[low] : indptr[high]] = part.columns_g[mine.indices]
            data[indptr[low] : indptr[high]] = mine.data
        matrix_ng = sparse.csr_matrix((data, indices, indptr), shape=(len(rows_n), len(self.genes)))
        matrix_ng.sum_duplicates()
        matrix_ng.eliminate_zeros()
        return matrix_ng


@dataclass(frozen=True)
class _Part:
    """One file's share of the cells: from position `first` on, file rows `rows_n`.

    `columns_g[j]` is the position among all genes of gene `j` of the file.
    """

    file: CellFile
    first: int
    rows_n: np.ndarray
    columns_g: np.ndarray


def _parts(
    files: Sequence[CellFile], columns: Sequence[np.ndarray], kept_n: np.ndarray
) -> list[_Part]:
    starts = np.concatenate([[0], np.cumsum([len(f) for f in files])])
    bounds = np.searchsorted(kept_n, starts)
    return [
        _Part(file, int(bounds[i]), kept_n[bounds[i] : bounds[i + 1]] - starts[i], columns[i])
        for i, file in enumerate(files)
    ]


def wanted_columns(
    present: Sequence[str], schema: CellSchema, query: CellQuery, where: str
) -> list[str]:
    """The obs columns that a study needs.

    Raises
    ------
    LabelError
        If one is not `present`.
    """
    named = [column for column in (schema.donor, schema.batch) if column]
    wanted = [*schema.phenotypes, *named, *query.filters]
    for column in wanted:
        if column not in present:
            raise LabelError(
                f"has no obs column {column!r}",
                where=where,
                expected=f"one of {closest(column, present, n=30)}",
                fix="correct data.phenotypes, study.donor, study.batch or study.filters",
            )
    return list(dict.fromkeys(wanted))


def wanted_rows(obs: pd.DataFrame, query: CellQuery) -> np.ndarray:
    """(cells,) bool: cells that hold one of the listed labels in every filtered column.

    Raises
    ------
    LabelError, CellsError
        For a label that no cell has, and if no cell matches.
    """
    keep_n = np.ones(len(obs), dtype=bool)
    for column, labels in query.filters.items():
        counts = {str(k): int(v) for k, v in obs[column].value_counts().items() if v}
        for label in labels:
            require_label(label, counts, column=column, where="study.filters")
        keep_n &= obs[column].isin(labels).to_numpy()
    if not keep_n.any():
        raise CellsError(
            "no cell matches the filters",
            where="study.filters",
            expected=f"at least one of {len(obs)} cells with {dict(query.filters)}",
            fix="loosen study.filters",
        )
    return keep_n


def missing_notes(obs: pd.DataFrame) -> list[str]:
    """One sentence for every column in which cells have no label."""
    missing = obs.isna().sum()
    return [
        f"{n} of {len(obs)} cells have no label in {column!r} (unknown, empty or NaN)"
        for column, n in missing[missing > 0].items()
    ]


def without_empty(cells: Cells, where: str) -> Cells:
    """The cells that express a gene; the others are counted as all-zero.

    Raises
    ------
    CellsError
        If none does.
    """
    filled_n = np.diff(cells.matrix_ng.indptr) > 0
    if filled_n.all():
        return cells
    if not filled_n.any():
        raise CellsError("every cell that matches the filters is all-zero", where=where)
    n_empty = cells.dropped.get("all-zero", 0) + int((~filled_n).sum())
    return replace(
        cells.take(np.flatnonzero(filled_n)), dropped={**cells.dropped, "all-zero": n_empty}
    )


def _join_obs(files: Sequence[CellFile], schema: CellSchema, query: CellQuery) -> pd.DataFrame:
    """The wanted columns of all files; their cell names as compact strings."""
    frames, names = [], []
    for file in files:
        columns = wanted_columns(file.obs_columns(), schema, query, str(file.path))
        frame = file.obs(columns)
        names.append(pd.Series(frame.index.astype(str), dtype="string[pyarrow]"))
        frames.append({c: as_labels(frame[c]) for c in columns})
    index = pd.Index(pd.concat(names, ignore_index=True))
    if len(files) > 1 and not index.is_unique:
        stems = [f.path.stem for f in files]
        if len(set(stems)) < len(stems):  # files of one name in several folders
            stems = [str(f.path) for f in files]
        index = pd.Index(
            pd.concat([f"{s}:" + n for s, n in zip(stems, names, strict=True)], ignore_index=True)
        )
    return pd.DataFrame(
        {c: join_labels([frame[c] for frame in frames]) for c in frames[0]}, index=index
    )


def _slow(files: Sequence[CellFile]) -> list[str]:
    by_gene = [f.path.name for f in files if f.by_gene]
    if not by_gene:
        return []
    return [
        f"{len(by_gene)} files are stored by gene (CSC), the first {by_gene[0]}: each read of "
        "cells scans such a file; write it as CSR to read it often"
    ]


def _where(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"data.path ({len(files)} files)"
