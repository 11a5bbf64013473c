"""Draw matched input/baseline pairs: donors uniformly, then cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from gradgene.cells import Cells, require_label
from gradgene.errors import ConfigError, PairError

__all__ = ["PairPlan", "PairSampler"]

#: Stratum of cells that lack a label to match on: they equal nothing, not even each other.
UNKNOWN = "a label to match on is missing"


@dataclass(frozen=True)
class PairPlan:
    """The pairs to attribute, drawn before any work starts.

    Attributes
    ----------
    table
        One row a pair: `pair, input, baseline` (cell names), `input_row, baseline_row` (positions
        among the cells given), `donor_input, donor_baseline` (None without donors), `stratum`.
    skipped
        One row for each stratum whose input cells have no matched baseline:
        `stratum, n_cells, reason`.
    controls
        Stratum -> positions of every cell of the baseline's label in it, drawn or not.
    averaged
        Position of a baseline that is a mean -> positions of the cells it is the mean of.
    """

    table: pd.DataFrame
    skipped: pd.DataFrame
    controls: Mapping[str, np.ndarray] = field(default_factory=dict)
    averaged: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table.empty:
            reasons = "; ".join(self.skipped["reason"].unique()) or "no input cell"
            raise PairError(
                "no matched pair can be formed",
                where="study.match_on",
                found=reasons,
                fix="match on fewer categories, or hold out other donors",
            )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def input_rows(self) -> np.ndarray:
        """(pairs,) positions of the input cells."""
        return self.table["input_row"].to_numpy(dtype=np.int64)

    @property
    def baseline_rows(self) -> np.ndarray:
        """(pairs,) positions of the baseline cells."""
        return self.table["baseline_row"].to_numpy(dtype=np.int64)

    @property
    def control_rows(self) -> np.ndarray:
        """Positions of the distinct measured cells behind the baselines."""
        behind = [self.averaged.get(int(row), [row]) for row in np.unique(self.baseline_rows)]
        return np.unique(np.concatenate(behind)).astype(np.int64)

    @property
    def donors(self) -> np.ndarray:
        """(pairs,) number of each input cell's donor, counted from 0 in order of name."""
        names = self.table["donor_input"].fillna("").astype(str)
        return pd.factorize(names, sort=True)[0].astype(np.int64)

    @property
    def n_skipped(self) -> int:
        """Number of input cells without a matched baseline."""
        return int(self.skipped["n_cells"].sum())


@dataclass(frozen=True)
class PairSampler:
    """Draws pairs that agree on every `match_on` category and differ in the target label.

    Parameters
    ----------
    target, input, baseline
        Target category, the input's label and the baseline's label.
    match_on
        Categories on which the two cells of a pair must agree.
    per_cell
        Baselines drawn for each input cell; fewer where a stratum has fewer.
    max_pairs
        At most this many pairs; None uses every input cell once.
    file
        CSV or parquet with columns `input` and `baseline` holding cell names: exactly these
        pairs, in this order, instead of drawing (`baseline=mean` takes its inputs alone).
    max_training_pairs
        As `max_pairs`, for the pairs of training cells that make the pruning rankings.
    seed
        Seed of the draws.
    """

    target: str
    input: str
    baseline: str
    match_on: tuple[str, ...] = ()
    per_cell: int = 1
    max_pairs: int | None = None
    file: str | None = None
    max_training_pairs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target in self.match_on:
            raise ConfigError(
                f"the target {self.target!r} cannot be matched on, since pairs differ in it",
                where="study.match_on",
                fix=f"remove {self.target!r} from study.match_on",
            )
        if self.input == self.baseline:
            raise ConfigError(
                f"input and baseline are the same label {self.input!r}",
                where="study.baseline",
                fix="name two different labels of the target",
            )
        if self.per_cell < 1 or (self.max_pairs is not None and self.max_pairs < 1):
            raise ConfigError(
                "asks for no pair",
                where="pairs",
                expected="per_cell and max_pairs of at least 1",
                found=f"per_cell={self.per_cell}, max_pairs={self.max_pairs}",
            )

    def for_training(self) -> PairSampler:
        """The sampler of training pairs: same matching, its own number, never the file."""
        return replace(self, max_pairs=self.max_training_pairs, file=None)

    def sample(self, cells: Cells) -> PairPlan:
        """Draw pairs among `cells`; the same seed gives the same plan.

        Donors are drawn uniformly and then a cell of the donor, so that a donor with many cells
        does not dominate; no input cell is drawn twice.

        Raises
        ------
        LabelError, PairError
            If a label is missing, or no input cell has a matched baseline.
        """
        if self.file is not None:
            return self._from_file(cells)
        for label, where in ((self.input, "study.input"), (self.baseline, "study.baseline")):
            require_label(label, cells.counts_of(self.target), column=self.target, where=where)
        rng = np.random.default_rng(self.seed)
        donors = _donors(cells)
        strata = _strata(cells, self.match_on)
        inputs = np.flatnonzero(cells.obs[self.target].to_numpy() == self.input)
        controls = self._controls(cells, strata)
        pool = {stratum: _group(rows, donors) for stratum, rows in controls.items()}
        matched = np.array([strata[row] in pool for row in inputs], dtype=bool)
        skipped = _skipped(strata[inputs[~matched]], self.baseline)
        n_inputs = matched.sum()
        if self.max_pairs is not None:
            n_inputs = min(n_inputs, -(-self.max_pairs // self.per_cell))
        drawn = _donors_then_cells(_group(inputs[matched], donors), int(n_inputs), rng)
        pairs = [
            (row, control)
            for row in drawn
            for control in _donors_then_cells(pool[strata[row]], self.per_cell, rng)
        ]
        return PairPlan(_table(cells, pairs[: self.max_pairs], strata), skipped, controls)

    def _controls(self, cells: Cells, strata: np.ndarray) -> dict[str, np.ndarray]:
        """Positions of the cells of the baseline's label by stratum; `strata` has every cell's."""
        rows = np.flatnonzero(cells.obs[self.target].to_numpy() == self.baseline)
        return {s: found for s, found in _group(rows, strata).items() if s != UNKNOWN}

    def _from_file(self, cells: Cells) -> PairPlan:
        file = Path(str(self.file)).expanduser()
        if not file.is_file():
            raise PairError(f"no such file: {file}", where="pairs.file")
        frame = _read_table(file)
        missing = [c for c in ("input", "baseline") if c not in frame.columns]
        if missing:
            raise PairError(
                f"lacks the column {missing[0]!r}",
                where=str(file),
                expected="columns input and baseline holding cell names",
                found=", ".join(frame.columns),
            )
        if not cells.obs.index.is_unique:
            raise PairError(
                "cell names occur more than once, so a pair file is ambiguous",
                where="pairs.file",
                fix="call obs_names_make_unique() on the data first",
            )
        position = {name: i for i, name in enumerate(cells.obs.index)}
        unknown = [n for n in (*frame["input"], *frame["baseline"]) if n not in position]
        if unknown:
            raise PairError(
                f"{len(unknown)} cell names are not among the cells: {unknown[0]!r}",
                where=str(file),
                fix="use obs names of held-out cells that pass the filters",
            )
        strata = _strata(cells, self.match_on)
        pairs = [
            (position[a], position[b])
            for a, b in zip(frame["input"], frame["baseline"], strict=True)
        ]
        empty = pd.DataFrame({"stratum": [], "n_cells": [], "reason": []})
        return PairPlan(_table(cells, pairs, strata), empty, self._controls(cells, strata))


def _read_table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    except (ValueError, OSError) as error:
        raise PairError(
            "cannot be read as a table",
            where=str(file),
            expected="CSV or parquet with columns input and baseline",
            found=f"{type(error).__name__}: {error}",
        ) from error


def _donors(cells: Cells) -> np.ndarray:
    """Donor of each cell; without a donor column every cell is of the one unnamed donor."""
    if cells.schema.donor is None:
        return np.full(len(cells), "", dtype=object)
    return cells.obs[cells.schema.donor].fillna("").to_numpy(dtype=object)


def _strata(cells: Cells, match_on: tuple[str, ...]) -> np.ndarray:
    """Label combination of the matched categories of each cell, `UNKNOWN` where one is missing."""
    if not match_on:
        return np.full(len(cells), "all cells", dtype=object)
    frame = cells.obs[list(match_on)]
    strata = np.array([" | ".join(map(str, row)) for row in frame.to_numpy()], dtype=object)
    strata[frame.isna().any(axis=1).to_numpy()] = UNKNOWN
    return strata


def _group(rows: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
    """Rows by their key (`keys` has one for every cell), keys in order of name."""
    return {str(k): rows[keys[rows] == k] for k in sorted(set(keys[rows].tolist()))}


def _donors_then_cells(
    rows_by_donor: dict[str, np.ndarray], n: int, rng: np.random.Generator
) -> list[int]:
    """Draw `n` rows, or all if there are fewer, without replacement; donors uniformly."""
    drawn: list[int] = []
    left = {d: rng.permutation(rows).tolist() for d, rows in rows_by_donor.items()}
    while left and len(drawn) < n:
        donor = str(rng.choice(sorted(left)))
        drawn.append(left[donor].pop())
        if not left[donor]:
            del left[donor]
    return drawn


def _skipped(strata: np.ndarray, baseline: str) -> pd.DataFrame:
    counts = pd.Series(strata, dtype=object).value_counts().sort_index()
    return pd.DataFrame(
        {
            "stratum": list(counts.index),
            "n_cells": counts.to_numpy(dtype=int),
            "reason": [
                UNKNOWN if s == UNKNOWN else f"no {baseline!r} cell in {s!r}" for s in counts.index
            ],
        }
    )


def _table(cells: Cells, pairs: list[tuple[int, int]], strata: np.ndarray) -> pd.DataFrame:
    inputs = np.array([a for a, _ in pairs], dtype=int)
    baselines = np.array([b for _, b in pairs], dtype=int)
    names = cells.obs.index.to_numpy()
    donors = _donors(cells) if cells.schema.donor else np.full(len(cells), None, dtype=object)
    return pd.DataFrame(
        {
            "pair": np.arange(len(pairs)),
            "input": names[inputs],
            "baseline": names[baselines],
            "input_row": inputs,
            "baseline_row": baselines,
            "donor_input": donors[inputs],
            "donor_baseline": donors[baselines],
            "stratum": strata[inputs],
        }
    )
