"""Split cells so that no donor is both learnt from and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradgene.cells.cells import Cells
from gradgene.errors import CellsError, LabelError, closest

__all__ = ["Split", "split_cells"]


@dataclass(frozen=True)
class Split:
    """Integer positions of the cells to train on, to choose checkpoints on, and to judge on.

    `kind` says in words how the held-out cells were chosen; it is shown in the report.
    """

    train_n: np.ndarray
    validation_n: np.ndarray
    test_n: np.ndarray
    kind: str

    def __post_init__(self) -> None:
        parts = (self.train_n, self.validation_n, self.test_n)
        rows = np.concatenate(parts)
        if len(np.unique(rows)) != rows.size:
            raise CellsError("a cell is in two parts of the split")

    @property
    def names(self) -> dict[str, np.ndarray]:
        """Part name -> positions."""
        return {"train": self.train_n, "validation": self.validation_n, "test": self.test_n}


def split_cells(
    cells: Cells,
    target: str,
    holdout_donors: Sequence[str] | float,
    validation: float,
    seed: int,
) -> Split:
    """Hold donors out for testing, and a stratified share of the other cells for validation.

    Parameters
    ----------
    cells
        All cells of the study; those without a target label must have been dropped.
    target
        Phenotype column that the stratification balances.
    holdout_donors
        Donor names, or the fraction of donors to hold out. Without a donor column the same
        fraction of cells is held out, stratified by target label, and `kind` says so.
    validation
        Fraction of the remaining cells used to choose the checkpoint.
    seed
        Seed of every draw.

    Raises
    ------
    LabelError, CellsError
        For unknown donors and for parts without cells.
    """
    rng = np.random.default_rng(seed)
    labels = cells.obs[target].to_numpy()
    everyone = np.arange(len(cells))
    if cells.schema.donor is None:
        if not isinstance(holdout_donors, int | float):
            raise CellsError(
                "donors are named but the study has no donor column",
                where="data.holdout_donors",
                found=str(list(holdout_donors)),
                fix="set study.donor to an obs column",
            )
        test_n = _stratified(everyone, labels, holdout_donors, rng)
        kind = "stratified cells (no donor column: cells of one donor may be on both sides)"
    else:
        donors_n = cells.obs[cells.schema.donor].to_numpy()
        held = _held_out_donors(donors_n, holdout_donors, rng)
        test_n = everyone[np.isin(donors_n, list(held))]
        kind = f"held-out donors {', '.join(sorted(held))}"
    rest = np.setdiff1d(everyone, test_n)
    validation_n = _stratified(rest, labels, validation, rng)
    split = Split(np.setdiff1d(rest, validation_n), validation_n, test_n, kind)
    for name in ("train", "test"):
        if not split.names[name].size:
            raise CellsError(
                f"the {name} part of the split has no cells",
                where="data.holdout_donors",
                found=kind,
                fix="hold out fewer or other donors",
            )
    return split


def _held_out_donors(
    donors_n: np.ndarray, wanted: Sequence[str] | float, rng: np.random.Generator
) -> set[str]:
    known = sorted({str(d) for d in donors_n if isinstance(d, str)})
    if isinstance(wanted, int | float):
        n_held = min(max(1, round(float(wanted) * len(known))), len(known) - 1)
        return set(rng.permutation(known)[: max(n_held, 0)].tolist())
    for donor in wanted:
        if str(donor) not in known:
            raise LabelError(
                f"no cell is from donor {donor!r}",
                where="data.holdout_donors",
                expected=f"one of {closest(str(donor), known)}",
            )
    return {str(d) for d in wanted}


def _stratified(
    rows: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """About `fraction` of `rows` of each label; a label with one cell keeps it."""
    chosen = []
    for label in sorted(set(labels[rows].tolist())):
        mine = rng.permutation(rows[labels[rows] == label])
        chosen.append(mine[: min(round(fraction * mine.size), mine.size - 1)])
    return np.sort(np.concatenate(chosen)) if chosen else rows[:0]
