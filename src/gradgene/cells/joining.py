"""Genes of several files under one list of names.

Rule of joining. Version suffixes of Ensembl ids are stripped (`ENSG00000000003.15` is
`ENSG00000000003`); `_PAR_Y` stays, because GENCODE counts the two copies of a pseudoautosomal gene
separately. If every file has Ensembl ids, or some file is named by them, genes are joined by
Ensembl id, otherwise by name. A gene that has a symbol alone gets its id from the files that have
both. A joined gene is called what the first file that has it calls it; where some files are named
by symbols and others by Ensembl ids, it is called by its Ensembl id.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from gradgene.errors import CellsError, closest

__all__ = ["FileGenes", "JoinedGenes", "file_genes", "join_genes", "strip_version"]

#: var columns in which files keep Ensembl ids and symbols, the first one present counts.
ENSEMBL_COLUMNS = ("ensembl_id", "gene_ids", "feature_id", "gene_id", "ensembl")
SYMBOL_COLUMNS = ("feature_name", "gene_symbol", "gene_symbols", "gene_name", "symbol")
VERSIONED = re.compile(r"(ENS[A-Z]*\d{6,})\.\d+(_PAR_Y)?")
ENSEMBL = re.compile(r"ENS[A-Z]*\d{6,}(_PAR_Y)?")


@dataclass(frozen=True)
class FileGenes:
    """The genes of one file, by column: name, Ensembl id and symbol ("" where it has none)."""

    where: str
    names: tuple[str, ...]
    ensembl_ids: tuple[str, ...]
    symbols: tuple[str, ...]

    @cached_property
    def named_by_ids(self) -> bool:
        """Whether most names are Ensembl ids."""
        return _mostly_ensembl(self.names)

    @cached_property
    def has_ids(self) -> bool:
        """Whether most genes have an Ensembl id."""
        return sum(map(bool, self.ensembl_ids)) > len(self.ensembl_ids) / 2


@dataclass(frozen=True)
class JoinedGenes:
    """One list of genes for several files.

    `columns[i][j]` is the position in `genes` of gene `j` of file `i`.
    """

    genes: tuple[str, ...]
    ensembl_ids: tuple[str, ...]
    columns: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=1 << 18)  # files of one atlas repeat each other's genes
def strip_version(gene: str) -> str:
    """An Ensembl id without its version; anything else as it is."""
    match = VERSIONED.fullmatch(gene)
    return gene if match is None else match[1] + (match[2] or "")


def file_genes(var: pd.DataFrame, gene_key: str | None, where: str) -> FileGenes:
    """Names, Ensembl ids and symbols of the genes of one file.

    Raises
    ------
    CellsError
        For an unknown `gene_key` and for names that occur more than once.
    """
    if gene_key is not None and gene_key not in var.columns:
        raise CellsError(
            f"has no var column {gene_key!r}",
            where=where,
            expected=f"one of {closest(gene_key, var.columns)} or null for the var index",
            fix="correct data.gene_key",
        )
    index = tuple(strip_version(str(v)) for v in var.index)
    names = index if gene_key is None else _column(var, gene_key)
    by_index = _mostly_ensembl(index)
    ids = index if by_index else _first_column(var, ENSEMBL_COLUMNS)
    symbols = _first_column(var, SYMBOL_COLUMNS) if by_index else index
    _refuse_repeats(names, "gene names", where)
    return FileGenes(where, names, ids, symbols)


def join_genes(files: Sequence[FileGenes]) -> JoinedGenes:
    """One list of genes over all files, in the order in which they first occur.

    Raises
    ------
    CellsError
        If an Ensembl id that must join files occurs twice in one, or a file has no ids and no
        other file says which they are.
    """
    if len(files) == 1:
        genes = files[0]
        return JoinedGenes(genes.names, genes.ensembl_ids, (np.arange(len(genes.names)),))
    if not any(f.named_by_ids for f in files) and not all(f.has_ids for f in files):
        return _joined(files, [f.names for f in files])
    files = _with_ids(files)
    for file in files:
        _refuse_repeats([i for i in file.ensembl_ids if i], "Ensembl ids", file.where)
    keys = [tuple(i or name for i, name in zip(f.ensembl_ids, f.names, strict=True)) for f in files]
    return _joined(files, keys)


def _with_ids(files: Sequence[FileGenes]) -> list[FileGenes]:
    """Genes without an Ensembl id get the one that another file gives for their symbol."""
    if all(all(f.ensembl_ids) for f in files):
        return list(files)
    known: dict[str, str] = {}
    for file in files:
        if file.has_ids:
            for called in (file.symbols, file.names):
                pairs = zip(called, file.ensembl_ids, strict=True)
                known |= {name: i for name, i in pairs if name and i and name not in known}
    complete = []
    for file in files:
        if not all(file.ensembl_ids):
            file = replace(file, ensembl_ids=_completed(file, known))
            if not any(file.ensembl_ids):
                named = next(f.where for f in files if f.named_by_ids)
                raise CellsError(
                    f"{file.where} names genes by symbol and {named} by Ensembl id, and no file "
                    "has both for them",
                    where="data.path",
                    fix="add a var column ensembl_id to the former or feature_name to the latter",
                )
        complete.append(file)
    return complete


def _completed(file: FileGenes, known: Mapping[str, str]) -> tuple[str, ...]:
    """Its Ensembl ids, with those `known` for names that have none; none is given away twice."""
    own = set(file.ensembl_ids)
    free = {name: i for name, i in known.items() if i not in own}
    pairs = zip(file.names, file.ensembl_ids, strict=True)
    return tuple(i or free.get(name, "") for name, i in pairs)


def _joined(files: Sequence[FileGenes], keys: Sequence[tuple[str, ...]]) -> JoinedGenes:
    place: dict[str, int] = {}
    names: list[str] = []
    ids: list[str] = []
    by_id = len({f.named_by_ids for f in files}) > 1
    taken: set[str] = set()
    renamed = 0
    for file, mine in zip(files, keys, strict=True):
        for key, name, gene_id in zip(mine, file.names, file.ensembl_ids, strict=True):
            if key in place:
                at = place[key]
                ids[at] = ids[at] or gene_id
                continue
            called = gene_id or name if by_id else name
            if called in taken:  # the same symbol for another Ensembl id
                called, renamed = key, renamed + 1
            place[key] = len(names)
            taken.add(called)
            names.append(called)
            ids.append(gene_id)
    columns = tuple(np.array([place[key] for key in mine], dtype=np.int32) for mine in keys)
    notes = [*_lacking(columns, len(names))]
    if renamed:
        notes.append(f"{renamed} genes are called by their Ensembl id: another has their symbol")
    return JoinedGenes(tuple(names), tuple(ids), columns, tuple(notes))


def _lacking(columns: Sequence[np.ndarray], n_genes: int) -> list[str]:
    lacking = [n_genes - len(c) for c in columns if len(c) < n_genes]
    if not lacking:
        return []
    return [
        f"{len(lacking)} of {len(columns)} files lack genes that others have (up to "
        f"{max(lacking)} of {n_genes}); these count as zero in them"
    ]


def _refuse_repeats(names: Sequence[str], kind: str, where: str) -> None:
    if len(set(names)) == len(names):
        return
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    raise CellsError(
        f"{len(twice)} {kind} occur more than once: {', '.join(twice[:5])}",
        where="data.gene_key",
        found=f"in {where}",
        expected=f"unique {kind}, also without the version suffix of Ensembl ids",
        fix="name a var column with unique ids, or sum or rename these genes in the file first",
    )


def _mostly_ensembl(names: Sequence[str]) -> bool:
    return bool(names) and sum(bool(ENSEMBL.fullmatch(n)) for n in names) > len(names) / 2


def _column(var: pd.DataFrame, column: str) -> tuple[str, ...]:
    return tuple("" if pd.isna(v) else strip_version(str(v)) for v in var[column])


def _first_column(var: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    for column in columns:
        if column in var.columns:
            return _column(var, column)
    return ("",) * len(var)
