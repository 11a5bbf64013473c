"""The table of pairs that is written before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from gradgene.cells import Cells
from gradgene.errors import PairError

__all__ = ["PairPlan", "no_skipped", "pair_table"]


def no_skipped() -> pd.DataFrame:
    """The table of skipped input cells where none was skipped."""
    kinds = {"stratum": object, "n_cells": np.int64, "reason": object}
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in kinds.items()})


def pair_table(
    cells: Cells,
    pairs: Sequence[tuple[int, int]],
    strata_n: np.ndarray,
    donors_n: np.ndarray,
    distances: Sequence[float] | None = None,
) -> pd.DataFrame:
    """The table of a `PairPlan` from the positions of the two cells of each pair.

    `strata_n` and `donors_n` are those of all cells; `distances` of the pairs, if they are known.
    """
    inputs = np.array([a for a, _ in pairs], dtype=np.int64)
    baselines = np.array([b for _, b in pairs], dtype=np.int64)
    names, batch = cells.obs.index.to_numpy(), cells.schema.batch
    nothing_n = np.full(len(cells), None, dtype=object)
    if cells.schema.donor is None:
        donors_n = nothing_n
    batches_n = nothing_n
    if batch is not None:
        labels = cells.obs[batch].astype(object)
        batches_n = labels.where(labels.notna(), None).to_numpy(dtype=object)
    return pd.DataFrame(
        {
            "pair": np.arange(len(pairs)),
            "input": names[inputs],
            "baseline": names[baselines],
            "input_row": inputs,
            "baseline_row": baselines,
            "donor_input": donors_n[inputs],
            "donor_baseline": donors_n[baselines],
            "batch_input": batches_n[inputs],
            "batch_baseline": batches_n[baselines],
            "stratum": strata_n[inputs],
            "distance": np.full(len(pairs), np.nan) if distances is None else np.array(distances),
        }
    )


@dataclass(frozen=True)
class PairPlan:
    """The pairs to attribute, drawn before any work starts.

    Attributes
    ----------
    table
        One row a pair: `pair, input, baseline` (cell names), `input_row, baseline_row` (positions
        among the cells given), `donor_input, donor_baseline` (None without donors), `batch_input,
        batch_baseline` (None without a batch column), `stratum`, `distance` (of the two cells
        where the baseline is the nearest, see `nearest_controls`; otherwise NaN).
    skipped
        One row for each stratum and reason why input cells of it have no matched baseline:
        `stratum, n_cells, reason`.
    controls
        Stratum -> positions of every cell of the baseline's label in it, drawn or not.
    averaged
        Position of a baseline that is a mean -> positions of the cells it is the mean of.
    averaged_donors
        Position of a baseline that is a mean -> names of the donors of those cells.
    same_donor
        Whether the two cells of every pair are of one donor because that was asked for.
    """

    table: pd.DataFrame
    skipped: pd.DataFrame
    controls: Mapping[str, np.ndarray] = field(default_factory=dict)
    averaged: Mapping[int, np.ndarray] = field(default_factory=dict)
    averaged_donors: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    same_donor: bool = False

    def __post_init__(self) -> None:
        if self.table.empty:
            reasons = "; ".join(self.skipped["reason"].unique()) or "no input cell"
            raise PairError(
                "no matched pair can be formed",
                where="study.match_on",
                found=reasons,
                fix="match on fewer categories, set pairs.donors=any, or hold out other donors",
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
        return self._behind(self.table)

    @property
    def donors(self) -> np.ndarray:
        """(pairs,) number of each input cell's donor, counted from 0 in order of name."""
        names = self.table["donor_input"].fillna("").astype(str)
        return pd.factorize(names, sort=True)[0].astype(np.int64)

    @property
    def n_donors_baseline(self) -> int:
        """Distinct donors of the cells behind the baselines; 0 without donors."""
        return self._n_donors_behind(self.table)

    @property
    def n_skipped(self) -> int:
        """Number of input cells without a matched baseline."""
        return int(self.skipped["n_cells"].sum())

    def take(self, rows: np.ndarray) -> PairPlan:
        """The pairs at positions `rows` of the table, in that order and numbered from 0.

        Positions of cells stay valid, and `controls` still names all of them; `skipped` is empty,
        because a part of a plan does not know whose cells were left out.

        Raises
        ------
        PairError
            If `rows` is empty.
        """
        table = self.table.iloc[rows].reset_index(drop=True)
        return replace(self, table=table.assign(pair=np.arange(len(table))), skipped=no_skipped())

    def strata(self) -> pd.DataFrame:
        """Counts of each matched group, also of those that were skipped whole, by name.

        Columns `stratum, n_pairs, n_inputs, n_baselines` (distinct cells behind the pairs),
        `n_controls` (cells of the baseline's label there, used or not), `n_donors_input,
        n_donors_baseline` (of the pairs; 0 without donors), `n_skipped` (input cells without a
        baseline), `reason` (None where none was skipped).
        """
        pairs_of = {str(s): pairs for s, pairs in self.table.groupby("stratum")}
        skipped_of = {str(s): skipped for s, skipped in self.skipped.groupby("stratum")}
        rows = []
        for stratum in sorted({*pairs_of, *skipped_of}):
            pairs = pairs_of.get(stratum, self.table.iloc[:0])
            skipped = skipped_of.get(stratum, self.skipped.iloc[:0])
            rows.append(
                {
                    "stratum": stratum,
                    "n_pairs": len(pairs),
                    "n_inputs": pairs["input_row"].nunique(),
                    "n_baselines": len(self._behind(pairs)),
                    "n_controls": len(self.controls.get(stratum, ())),
                    "n_donors_input": len(_named(pairs["donor_input"])),
                    "n_donors_baseline": self._n_donors_behind(pairs),
                    "n_skipped": int(skipped["n_cells"].sum()),
                    "reason": "; ".join(skipped["reason"]) or None,
                }
            )
        return pd.DataFrame(rows)

    def _behind(self, pairs: pd.DataFrame) -> np.ndarray:
        """Positions of the distinct measured cells behind the baselines of these pairs."""
        rows = np.unique(pairs["baseline_row"].to_numpy(dtype=np.int64))
        behind = [np.asarray(self.averaged.get(int(row), [row]), dtype=np.int64) for row in rows]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *behind]))

    def _n_donors_behind(self, pairs: pd.DataFrame) -> int:
        """Number of donors of the cells behind the baselines of these pairs."""
        names = _named(pairs["donor_baseline"])
        for row in pairs["baseline_row"].unique():
            names |= set(self.averaged_donors.get(int(row), ()))
        return len(names)


def _named(donors: pd.Series) -> set[str]:
    """Distinct donors; a cell of no known donor has None, NaN or an empty name."""
    return {str(donor) for donor in donors.dropna().unique() if donor != ""}
