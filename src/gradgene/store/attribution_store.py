"""Scores of many runs, cell by gene: appended run by run, read gene by gene."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gradgene.errors import LabelError, OutputError, closest
from gradgene.provenance import settings_hash
from gradgene.store.cell_scores import CellScores
from gradgene.store.gene_weights import GeneWeights
from gradgene.store.obs_columns import joined_column, require_labels, rows_where
from gradgene.store.parts import PartFacts, StorePart, checked_scores, write_part

__all__ = ["AttributionStore"]

#: Name of a part: its key, and how often it was replaced.
PART = re.compile(r"part-([0-9a-f]{12})-(\d+)\.zarr")
#: Hidden folders of appends that are going on, or were killed.
WORK = ".append-"
#: Held for moments, while names are given or leftovers removed.
LOCK = ".lock"


class AttributionStore:
    """A folder of parts, one a run: AnnData whose `X` is cells x genes, sparse, by gene.

    Parts may have different genes, models and obs columns. Any number of processes may append and
    read at the same time: a part is there as a whole or not at all.

    Parameters
    ----------
    folder
        The store; made by the first append.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()

    @cached_property
    def parts(self) -> tuple[StorePart, ...]:
        """The parts in the order of their appends, as they were when first asked for.

        Raises
        ------
        OutputError
            If there is no store, or a part is damaged.
        """
        newest: dict[str, tuple[int, Path]] = {}
        for key, number, path in self._present():
            newest[key] = max(newest.get(key, (-1, path)), (number, path))
        if not newest:
            raise OutputError(
                "holds no attributions",
                where=f"store={self.folder}",
                found=None if self.folder.is_dir() else "no such folder",
                fix="gradgene query add RUN store=DIR",
            )
        parts = [StorePart(path) for _, path in newest.values()]
        return tuple(sorted(parts, key=lambda part: (part.facts.added, part.key)))

    def append(
        self,
        scores_ng: Any,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        facts: PartFacts,
        *,
        replace_part: bool = False,
    ) -> str:
        """Add the scores of one run; returns the key of the new part.

        Killed at any moment this leaves no part, and what it wrote is removed by the next append.

        Parameters
        ----------
        scores_ng
            (cells, genes) dense or sparse; kept as float32.
        obs, var
            Indexed by the names of the cells and genes. Column `ensembl_id` of var, where there is
            one, also finds genes.
        facts
            Where the scores come from; `added` is set here.
        replace_part
            Replace the same run instead of refusing it.

        Raises
        ------
        OutputError
            If the same run with the same data and cells is there already, names or scores are
            unusable (see `checked_scores`), or the folder cannot be written.
        """
        scores, obs, var = checked_scores(scores_ng, obs, var)
        key = part_key(facts, obs.index)
        facts = replace(facts, added=datetime.now(UTC).isoformat(timespec="microseconds"))
        with self._workplace() as work:
            self._new_path(key, replace_part)  # refused before the work where possible
            write_part(work / "part.zarr", scores, obs, var, facts)
            with self._locked():
                path = self._new_path(key, replace_part)
                (work / "part.zarr").rename(path)
                for old in self._paths_of(key):
                    if old != path:
                        old.rename(work / old.name)
        self.__dict__.pop("parts", None)
        return key

    def drop(self, key: str) -> None:
        """Remove the part of this key.

        Raises
        ------
        OutputError
            If there is none.
        """
        if not self._paths_of(key):
            raise self._unknown(key)
        with self._workplace() as work, self._locked():
            for path in self._paths_of(key):
                path.rename(work / path.name)
        self.__dict__.pop("parts", None)

    def info(self) -> pd.DataFrame:
        """One row a part: `part, n_cells, n_genes`, then the fields of `PartFacts`."""
        return pd.DataFrame(
            [
                {"part": p.key, "n_cells": p.shape[0], "n_genes": p.shape[1], **asdict(p.facts)}
                for p in self.parts
            ]
        )

    def query(
        self,
        genes: Sequence[str],
        weights: Sequence[float] | None = None,
        *,
        where: Mapping[str, Sequence[str]] | None = None,
        columns: Sequence[str] | None = None,
        missing: Literal["error", "skip"] = "error",
        parts: Sequence[str] | None = None,
    ) -> CellScores:
        """Weighted mean of a gene set in every cell.

        With weights w and scores a the score of a cell is Σ w·a / Σ|w| over the genes that its part
        has; a gene that the model did not see in the cell counts as 0. Cells of a part with none of
        the genes have no score and are left out.

        Parameters
        ----------
        genes
            Names, or Ensembl ids where the parts know them.
        weights
            One a gene, negative for genes that speak against; None weighs all alike.
        where
            Obs column -> labels; keep the cells that have one of them in every column.
        columns
            Obs columns that the result shows; None for all of them.
        missing
            Whether a gene that no part has is an "error", or only lowers the coverage ("skip").
        parts
            Keys of the parts asked; None for all of them.

        Raises
        ------
        ConfigError
            For unusable weights, a gene given twice, or genes that no part has.
        LabelError
            For an obs column or label that no part has, or if no cell is left.
        OutputError
            If a part is damaged, dropped meanwhile, or not there.
        """
        asked, chosen = GeneWeights.of(genes, weights), self._chosen(parts)
        found = asked.found_in(chosen, missing)
        where = {column: tuple(labels) for column, labels in (where or {}).items()}
        shown = _require_columns(chosen, where, columns)
        tables = [part.obs([*dict.fromkeys([*where, *shown])]) for part in chosen]
        require_labels(tables, where)
        frames, coverage = [], []
        for part, obs, columns_k in zip(chosen, tables, found, strict=True):
            has = columns_k >= 0
            kept = rows_where(obs, where) if has.any() else np.zeros(0, dtype=np.int64)
            if len(kept):
                weight_k = asked.weights[has] / np.abs(asked.weights[has]).sum()
                scores_n = part.weighted_sum(columns_k[has], weight_k)[kept]
                frame = obs.reindex(columns=shown).iloc[kept]
                frame.index = pd.Index(part.cell_names()[kept], dtype=object)
                frames.append((part.key, scores_n, frame))
            part.require_present()
            lacks = [g for g, here in zip(asked.genes, has, strict=True) if not here]
            coverage.append((part, asked.coverage(columns_k), int(has.sum()), lacks, len(kept)))
        return _joined(asked, frames, coverage, shown, where)

    def _chosen(self, keys: Sequence[str] | None) -> tuple[StorePart, ...]:
        for key in keys or ():
            if key not in [part.key for part in self.parts]:
                raise self._unknown(key)
        return tuple(part for part in self.parts if keys is None or part.key in keys)

    def _unknown(self, key: str) -> OutputError:
        return OutputError(
            f"no part {key!r}",
            where=f"store={self.folder}",
            expected=f"one of {closest(key, dict.fromkeys(k for k, _, _ in self._present()))}",
            fix="`gradgene query info` lists the parts",
        )

    def _present(self) -> Iterator[tuple[str, int, Path]]:
        """Key, number and folder of every part that is there as a whole."""
        for path in sorted(self.folder.glob("part-*.zarr")):
            named = PART.fullmatch(path.name)
            if named:
                yield named[1], int(named[2]), path

    def _paths_of(self, key: str) -> list[Path]:
        return [path for k, _, path in self._present() if k == key]

    def _new_path(self, key: str, replace_part: bool) -> Path:
        numbers = [number for k, number, _ in self._present() if k == key]
        if numbers and not replace_part:
            raise OutputError(
                "holds the same run with the same data and cells already",
                where=f"store={self.folder}",
                found=f"part {key}",
                fix="replace=true replaces it",
            )
        return self.folder / f"part-{key}-{max(numbers, default=-1) + 1}.zarr"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / LOCK).open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        """A hidden folder whose lock is held as long as this process lives and needs it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._clean()
                work = Path(tempfile.mkdtemp(prefix=WORK, dir=self.folder))
                held = (work / LOCK).open("a")
                fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(
                "cannot be written to",
                where=f"store={self.folder}",
                found=error.strerror or str(error),
                fix="choose another folder",
            ) from error
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            held.close()

    def _clean(self) -> None:
        """Remove what killed appends left: folders whose lock nobody holds any more."""
        for left in self.folder.glob(f"{WORK}*"):
            try:
                with (left / LOCK).open("a") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            except (BlockingIOError, FileNotFoundError):
                continue  # its append is still at work, or is just removing it itself
        for key, number, path in self._present():
            if number < max(n for k, n, _ in self._present() if k == key):
                shutil.rmtree(path, ignore_errors=True)  # replaced by an append killed just then


def part_key(facts: PartFacts, cells: Sequence[str] | pd.Index) -> str:
    """Twelve hex digits that identify what was explained how, wherever the run's folder lies."""
    same = ("config_hash", "data", "method", "importance", "target")
    return settings_hash([{k: v for k, v in asdict(facts).items() if k in same}, sorted(cells)])


def _require_columns(
    parts: Sequence[StorePart], where: Mapping[str, object], columns: Sequence[str] | None
) -> list[str]:
    """The columns to be shown; `LabelError` for one, or one of `where`, that no part has."""
    known = [*dict.fromkeys(column for part in parts for column in part.obs_columns)]
    for column in (*where, *(columns or ())):
        if column not in known:
            raise LabelError(
                f"no part of the store has an obs column {column!r}",
                where="columns" if column in (columns or ()) else f"where.{column}",
                expected=f"one of {closest(column, known, n=20)}",
            )
    return known if columns is None else list(columns)


def _joined(
    asked: GeneWeights,
    frames: list[tuple[str, np.ndarray, pd.DataFrame]],
    coverage: list[tuple[StorePart, float, int, list[str], int]],
    shown: list[str],
    where: Mapping[str, Sequence[str]],
) -> CellScores:
    """The scores of all parts, one part below the other."""
    if not frames:
        found = ", ".join(f"{column}={list(labels)}" for column, labels in where.items())
        raise LabelError("no cell is left", where="where", found=found)
    keys = np.array([key for key, _, _ in frames], dtype=object)
    n_cells = [len(scores_n) for _, scores_n, _ in frames]
    table = pd.DataFrame(
        {
            "part": pd.Categorical(np.repeat(keys, n_cells), categories=list(keys)),
            "cell": np.concatenate([frame.index.to_numpy() for _, _, frame in frames]),
            "score": np.concatenate([scores_n for _, scores_n, _ in frames]),
        }
    )
    taken = {c: f"obs.{c}" if c in table.columns else c for c in shown}
    for column, name in taken.items():
        table[name] = joined_column([frame[column] for _, _, frame in frames])
    return CellScores(
        table,
        pd.DataFrame(
            [
                (part.key, part.facts.run, part.facts.data, share, n, ", ".join(lacks), kept)
                for part, share, n, lacks, kept in coverage
            ],
            columns="part run data coverage n_genes missing n_cells".split(),
        ),
        asked,
    )
