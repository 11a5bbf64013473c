"""Draw matched input/baseline pairs: donors uniformly, then cells, or the nearest controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from gradgene.cells import Cells, require_label
from gradgene.errors import ConfigError, PairError, closest, require_least
from gradgene.pairs.listed import listed_pairs
from gradgene.pairs.matching import (
    Matches,
    controls_of,
    donors_of,
    find_matches,
    group,
    strata_of,
)
from gradgene.pairs.nearest import nearest_controls, principal_components
from gradgene.pairs.permuting import has_both, permuted_labels
from gradgene.pairs.plan import PairPlan, no_skipped, pair_table

__all__ = ["PairSampler"]

Matching = Literal["random", "nearest"]
ControlDonors = Literal["any", "same"]


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
    matching
        "random": controls are drawn, donors uniformly and then cells. "nearest": the `per_cell`
        controls most like the input, which narrows the contrast; see `pairs/nearest.py`. Inputs are
        drawn either way; pairs of a file are as they are.
    donors
        "any", or "same" for a control of the input's own donor; inputs whose donor has none are
        skipped. Pairs of a file are checked.
    permute_labels
        Seed by which the labels `input` and `baseline` are permuted among the cells of each donor
        (of all without donors) before pairs are drawn, also those of training cells. A control:
        every score of such a run is null. Donors with cells of one label are skipped, because
        nothing can be exchanged in them.
    n_components
        Principal components in which `matching="nearest"` measures distance.
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
    matching: Matching = "random"
    donors: ControlDonors = "any"
    permute_labels: int | None = None
    n_components: int = 50

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
        self._check_matching()

    def _check_matching(self) -> None:
        """Raise `ConfigError` for a kind of matching that there is not."""
        for name, known in (("matching", Matching), ("donors", ControlDonors)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(
                    f"unknown kind {getattr(self, name)!r}",
                    where=f"pairs.{name}",
                    expected=f"one of {closest(getattr(self, name), get_args(known))}",
                )
        require_least(
            "pairs",
            n_components=(self.n_components, 1),
            permute_labels=(self.permute_labels, 0),
        )
        if self.file is not None and self.permute_labels is not None:
            raise ConfigError(
                "pairs of a file are not drawn, so permuted labels would change nothing",
                where="pairs.permute_labels",
                fix="set pairs.file=null or pairs.permute_labels=null",
            )

    def for_training(self) -> PairSampler:
        """The sampler of training pairs: same matching, its own number, never the file."""
        return replace(self, max_pairs=self.max_training_pairs, file=None)

    def sample(self, cells: Cells) -> PairPlan:
        """Draw pairs among `cells`; the same seed gives the same plan.

        Donors are drawn uniformly and then a cell of the donor, so that a donor with many cells
        does not dominate; no input cell is drawn twice. `matching="nearest"` log-normalises cells
        of counts; give prepared ones to measure over the genes that a model reads.

        Raises
        ------
        LabelError, ConfigError, PairError
            If a label or a donor column is missing, or no input cell has a matched baseline.
        """
        if self.donors == "same" and cells.schema.donor is None:
            raise ConfigError(
                "asks for pairs of one donor, and the cells have no donors",
                where="pairs.donors",
                fix="set study.donor to the obs column of the donor, or pairs.donors=any",
            )
        if self.file is not None:
            return self._listed(cells, self.file)
        for label, where in ((self.input, "study.input"), (self.baseline, "study.baseline")):
            require_label(label, cells.counts_of(self.target), column=self.target, where=where)
        labels_n, can_draw_n = self._labels(cells)
        strata_n = strata_of(cells, self.match_on)
        matches = find_matches(
            np.flatnonzero(labels_n == self.input),
            np.flatnonzero(labels_n == self.baseline),
            strata_n,
            donors_of(cells),
            baseline=self.baseline,
            same_donor=self.donors == "same",
            can_draw_n=can_draw_n,
        )
        pairs, distances = self._draw(cells, matches)
        return PairPlan(
            pair_table(cells, pairs, strata_n, donors_of(cells), distances),
            matches.skipped,
            matches.controls,
            same_donor=self.donors == "same",
        )

    def _labels(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """(cells,) target labels to draw by, and whether the cell may be drawn."""
        labels_n = cells.obs[self.target].to_numpy(dtype=object)
        if self.permute_labels is None:
            return labels_n, np.ones(len(cells), dtype=np.bool_)
        pair, donors_n = (self.input, self.baseline), donors_of(cells)
        both_n = has_both(labels_n, pair, donors_n)
        if not both_n.any():
            raise PairError(
                "no donor has cells of both labels, so there is nothing to permute",
                where="pairs.permute_labels",
                expected=f"donors with cells of {self.input!r} and of {self.baseline!r}",
            )
        return permuted_labels(labels_n, pair, donors_n, self.permute_labels), both_n

    def _draw(
        self, cells: Cells, matches: Matches
    ) -> tuple[list[tuple[int, int]], list[float] | None]:
        """Positions of the pairs and, of nearest ones, their distances."""
        rng = np.random.default_rng(self.seed)
        donors_n = donors_of(cells)
        n_inputs = len(matches.inputs)
        if self.max_pairs is not None:
            n_inputs = min(n_inputs, -(-self.max_pairs // self.per_cell))
        drawn = _donors_then_cells(group(matches.inputs, donors_n), n_inputs, rng)
        if self.matching == "nearest":
            place_nk = principal_components(cells, self.n_components)
            found = [
                (row, int(control), float(distance))
                for row in drawn
                for control, distance in zip(
                    *nearest_controls(place_nk, row, matches.partners[row], self.per_cell),
                    strict=True,
                )
            ][: self.max_pairs]
            return [(a, b) for a, b, _ in found], [distance for _, _, distance in found]
        pools = {id(rows): group(rows, donors_n) for rows in matches.partners.values()}
        pairs = [
            (row, control)
            for row in drawn
            for control in _donors_then_cells(pools[id(matches.partners[row])], self.per_cell, rng)
        ]
        return pairs[: self.max_pairs], None

    def _listed(self, cells: Cells, file: str) -> PairPlan:
        """The plan of the pairs in a file."""
        pairs, donors_n = listed_pairs(file, cells), donors_of(cells)
        if self.donors == "same":
            _check_same_donor(cells, pairs, donors_n, file)
        strata_n = strata_of(cells, self.match_on)
        baselines = np.flatnonzero(cells.obs[self.target].to_numpy() == self.baseline)
        return PairPlan(
            pair_table(cells, pairs, strata_n, donors_n),
            no_skipped(),
            controls_of(baselines, strata_n),
            same_donor=self.donors == "same",
        )


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


def _check_same_donor(
    cells: Cells, pairs: list[tuple[int, int]], donors_n: np.ndarray, file: str
) -> None:
    names = cells.obs.index
    for a, b in pairs:
        if donors_n[a] != donors_n[b] or not donors_n[a]:
            raise PairError(
                f"{names[a]!r} and {names[b]!r} are not of the same donor",
                where=file,
                expected="pairs of one donor, as pairs.donors=same asks for",
                found=f"{donors_n[a] or 'no donor'} and {donors_n[b] or 'no donor'}",
                fix="correct the file or set pairs.donors=any",
            )
