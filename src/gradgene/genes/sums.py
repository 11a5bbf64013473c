"""Sums of gene scores over pairs, group by group, and what can be read from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from gradgene.errors import RankingError, closest
from gradgene.genes.crossing import CrossingSums

__all__ = ["GeneSums"]


@dataclass(frozen=True)
class GeneSums:
    """Sums over pairs of one method.

    Attributes
    ----------
    sums
        Quantity -> (groups, features) float64. Quantities: each importance's name, its
        `<name>/abs` and `<name>/zero` (number of exact zeros where present), `embedding`,
        `presence`, `present` (number of pairs with the feature), and `<main>/square` and
        `<main>/depth` (score x depth of the pair). Features are the genes and then the phenotype
        slots.
    n_pairs_g
        (groups,) pairs of each group.
    groups
        One row a group: `donor, batch, label` of the input cells, None where unknown.
    main
        The importance that makes the table.
    n_genes
        How many of the features are genes; None for all.
    depth_g, depth_square_g
        (groups,) sums over pairs of depth and of its square, around the mean of the plan.
    within_ss, within_dof
        (features,) sum of squares of the main score among the baselines of one input cell, and
        its degrees of freedom; absent counts as 0. None for a part of the pairs.
    null
        (n_null, features) mean score with the labels of input cells and their baselines exchanged
        at random, the spread widened where input cells share baselines; None where the importance
        has no such null, none was asked for, labels cannot be exchanged without exchanging donors,
        or for a part of the pairs.
    crossed
        Sums of the main score over the pairs of each donor of baseline cells; None where these
        are unknown or have no part in the scores.
    """

    sums: dict[str, np.ndarray]
    n_pairs_g: np.ndarray
    groups: pd.DataFrame
    main: str
    n_genes: int | None = None
    depth_g: np.ndarray | None = None
    depth_square_g: np.ndarray | None = None
    within_ss: np.ndarray | None = None
    within_dof: int = 0
    null: np.ndarray | None = None
    crossed: CrossingSums | None = None

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.n_pairs_g):
            raise RankingError(
                "groups and their numbers of pairs differ in number",
                expected=str(len(self.groups)),
                found=str(len(self.n_pairs_g)),
            )

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return int(self.n_pairs_g.sum())

    @property
    def donors(self) -> tuple[str, ...]:
        """Donors that have pairs, in order of name; pairs of unknown donors belong to none."""
        return self._present("donor")

    @property
    def n_donors(self) -> int:
        """Number of donors of the input cells; 0 where donors are unknown."""
        return len(self.donors)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that have pairs, in order of name."""
        return self._present("label")

    @property
    def n_pairs_d(self) -> np.ndarray:
        """(donors,) pairs of each of `donors`."""
        return cast(np.ndarray, (self._donor_groups() @ self.n_pairs_g).astype(np.int64))

    def total(self, quantity: str) -> np.ndarray:
        """(features,) sum over all pairs."""
        return cast(np.ndarray, self._quantity(quantity).sum(axis=0))

    def mean(self, quantity: str) -> np.ndarray:
        """(features,) mean over all pairs, absent counting as 0."""
        return self.total(quantity) / max(self.n_pairs, 1)

    def mean_present(self, quantity: str) -> np.ndarray:
        """(features,) mean over the pairs with the feature; NaN where there is none."""
        present, total = self.total("present"), self.total(quantity)
        nothing = np.full(len(total), np.nan)
        return cast(np.ndarray, np.divide(total, present, out=nothing, where=present > 0))

    def donor_means(self, quantity: str) -> np.ndarray:
        """(donors, features) mean over the pairs of each of `donors`, absent counting as 0."""
        sums_df = self._donor_groups() @ self._quantity(quantity)
        return cast(np.ndarray, sums_df / self.n_pairs_d[:, None])

    def zero_share(self, importance: str) -> float:
        """Share of exact zeros among all scores of genes, where present; NaN without any."""
        genes = slice(0, self.n_genes)
        n_present = self.total("present")[genes].sum()
        n_zero = self.total(f"{importance}/zero")[genes].sum()
        return float(n_zero / n_present) if n_present else float("nan")

    def of_label(self, label: str) -> GeneSums:
        """Sums over the pairs whose input cell has a label; without null and within-cell spread.

        Raises
        ------
        RankingError
            If no group has the label.
        """
        chosen = (self.groups["label"] == label).to_numpy()
        if not chosen.any():
            raise RankingError(
                f"no pair of label {label!r}",
                where="ranking.by",
                expected=f"one of {closest(label, self.labels)}",
            )
        return replace(
            self,
            sums={name: values[chosen] for name, values in self.sums.items()},
            n_pairs_g=self.n_pairs_g[chosen],
            groups=self.groups[chosen].reset_index(drop=True),
            depth_g=None if self.depth_g is None else self.depth_g[chosen],
            depth_square_g=None if self.depth_square_g is None else self.depth_square_g[chosen],
            within_ss=None,
            within_dof=0,
            null=None,
            crossed=self.crossed_of(label),
        )

    def crossed_of(self, label: str | None) -> CrossingSums | None:
        """Sums of the donors of baseline cells over the pairs of a label; None for all labels."""
        if self.crossed is None:
            return None
        of_r = self.crossed.rows["label"]
        mine = (of_r.isna() if label is None else of_r == label).to_numpy()
        rows = self.crossed.rows[mine].assign(label=None).reset_index(drop=True)
        return CrossingSums(rows, self.crossed.sums_rf[mine], self.crossed.weights_r[mine])

    def _quantity(self, name: str) -> np.ndarray:
        if name not in self.sums:
            raise RankingError(
                f"{name!r} was not accumulated", expected=f"one of {closest(name, self.sums)}"
            )
        return self.sums[name]

    def _present(self, column: str) -> tuple[str, ...]:
        found = self.groups.loc[self.n_pairs_g > 0, column].dropna()
        return tuple(sorted({str(name) for name in found}))

    def _donor_groups(self) -> np.ndarray:
        """(donors, groups) 1 where the group is of the donor."""
        of_g = self.groups["donor"].to_numpy(dtype=object)
        donors = self.donors
        members = np.array([[d == name for d in of_g] for name in donors], dtype=np.float64)
        return members.reshape(len(donors), len(of_g))
