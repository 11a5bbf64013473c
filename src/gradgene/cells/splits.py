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
    validation_donors: Sequence[str] | float | None = None,
) -> Split:
    """Hold donors out for testing, and other donors or a share of the other cells for validation.

    Parameters
    ----------
    cells
        All cells of the study; those without a target label must have been dropped.
    target
        Phenotype column that the stratification balances.
    holdout_donors
        Donor names, or the fraction of donors to hold out (above 0: at least one), with its share
        of the donors of each target label. Without a donor column the same fraction of cells is
        held out, stratified by target label, and `kind` says so.
    validation
        Fraction of the remaining cells used to choose the checkpoint; not read where there are
        `validation_donors`.
    seed
        Seed of every draw.
    validation_donors
        Names, or the fraction of the donors that are not held out, whose cells choose the
        checkpoint; None for the share `validation` of cells.

    Raises
    ------
    LabelError, CellsError
        For unknown donors, donors on two sides, and parts without cells: a share of 0 leaves none
        to judge on.
    """
    rng = np.random.default_rng(seed)
    labels = cells.obs[target].to_numpy()
    everyone = np.arange(len(cells))
    if cells.schema.donor is None:
        test_n = _stratified(everyone, labels, _share(holdout_donors, validation_donors), rng)
        kind = "stratified cells (no donor column: cells of one donor may be on both sides)"
        chosen: set[str] | None = None
    else:
        donors_n = cells.obs[cells.schema.donor].to_numpy()
        known = _labels_by_donor(donors_n, labels)
        held, chosen = _donor_sides(known, holdout_donors, validation_donors, rng)
        test_n = everyone[np.isin(donors_n, list(held))]
        kind = f"held-out donors {', '.join(sorted(held)) or 'none'}"
    rest = np.setdiff1d(everyone, test_n)
    if chosen is None:
        validation_n = _stratified(rest, labels, validation, rng)
    else:
        validation_n = rest[np.isin(donors_n[rest], list(chosen))]
        kind += f"; validation donors {', '.join(sorted(chosen))}"
    split = Split(np.setdiff1d(rest, validation_n), validation_n, test_n, kind)
    _require_cells(split, () if chosen is None else ("validation",))
    return split


Donors = Sequence[str] | float


def _share(holdout_donors: Donors, validation_donors: Donors | None) -> float:
    """The share of cells to hold out where the study names no donor column."""
    for key, donors in (("holdout", holdout_donors), ("validation", validation_donors)):
        if donors is not None and (key == "validation" or not isinstance(donors, int | float)):
            raise CellsError(
                "donors are named but the study has no donor column",
                where=f"data.{key}_donors",
                found=str(donors),
                fix="set study.donor to an obs column",
            )
    return float(holdout_donors)  # type: ignore[arg-type]


#: Donor -> the target labels of its cells; drawing donors keeps the shares of each combination.
LabelsByDonor = dict[str, tuple[str, ...]]


def _labels_by_donor(donors_n: np.ndarray, labels_n: np.ndarray) -> LabelsByDonor:
    """The known donors; where each has one label, as in a disease study, so has each group."""
    found: dict[str, set[str]] = {}
    for donor, label in zip(donors_n, labels_n, strict=True):
        if isinstance(donor, str):
            found.setdefault(donor, set()).add(str(label))
    return {donor: tuple(sorted(found[donor])) for donor in sorted(found)}


def _donor_sides(
    known: LabelsByDonor, holdout: Donors, validation: Donors | None, rng: np.random.Generator
) -> tuple[set[str], set[str] | None]:
    """Donors to test on, and donors to validate on if asked for; no donor is on both sides."""
    if validation is None:
        return _chosen(known, holdout, rng, "holdout"), None
    if isinstance(validation, int | float):
        held = _chosen(known, holdout, rng, "holdout")
        return held, _chosen(_without(known, held), validation, rng, "validation")
    chosen = _chosen(known, validation, rng, "validation")
    # What is named for validation cannot be drawn for testing.
    is_drawn = isinstance(holdout, int | float)
    held = _chosen(_without(known, chosen) if is_drawn else known, holdout, rng, "holdout")
    if held & chosen:
        raise CellsError(
            f"donor {min(held & chosen)!r} is also among the held-out donors",
            where="data.validation_donors",
            fix="choose validation donors beside data.holdout_donors",
        )
    return held, chosen


def _without(known: LabelsByDonor, donors: set[str]) -> LabelsByDonor:
    return {donor: labels for donor, labels in known.items() if donor not in donors}


def _chosen(known: LabelsByDonor, wanted: Donors, rng: np.random.Generator, side: str) -> set[str]:
    """The donors of `known` that are named, or a share of them: at least one unless 0, not all."""
    if wanted == 0:
        return set()
    if isinstance(wanted, int | float):
        n = min(max(1, round(float(wanted) * len(known))), len(known) - 1)
        return set(_shuffled(known, rng)[: max(n, 0)])
    for donor in wanted:
        if str(donor) not in known:
            raise LabelError(
                f"no cell is from donor {donor!r}",
                where=f"data.{side}_donors",
                expected=f"one of {closest(str(donor), known)}",
            )
    return {str(d) for d in wanted}


def _require_cells(split: Split, also: tuple[str, ...]) -> None:
    """Raise `CellsError` if there is nothing to learn from, to judge on, or in a part of `also`."""
    for name in ("train", "test", *also):
        if not split.names[name].size:
            raise CellsError(
                f"the {name} part of the split has no cells",
                where="data.validation_donors" if name == "validation" else "data.holdout_donors",
                found=split.kind,
                fix="hold out fewer or other donors"
                if name == "train"
                else "hold out some of several donors, by name or by a share above 0",
            )


def _shuffled(known: LabelsByDonor, rng: np.random.Generator) -> list[str]:
    """Donors in random order, those of the same labels spread evenly over it.

    Any beginning of it therefore has each combination of labels in proportion, to within one donor.
    """
    places: list[tuple[float, str]] = []
    for labels in sorted(set(known.values())):
        mine = rng.permutation([donor for donor in known if known[donor] == labels])
        places += [((i + 0.5) / len(mine), str(donor)) for i, donor in enumerate(mine)]
    return [donor for _, donor in sorted(places)]


def _stratified(
    rows: np.ndarray, labels: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """About `fraction` of `rows` of each label; a label with one cell keeps it."""
    chosen = []
    for label in sorted(set(labels[rows].tolist())):
        mine = rng.permutation(rows[labels[rows] == label])
        chosen.append(mine[: min(round(fraction * mine.size), mine.size - 1)])
    return np.sort(np.concatenate(chosen)) if chosen else rows[:0]
