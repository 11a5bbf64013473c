"""Areas between pruning curves, with intervals over donors or over draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.genes import mean_interval
from gradgene.pruning.sides import LEAST, side_interval, welch_reach

__all__ = ["RANDOM_WEIGHTS", "WHOLE_PANEL", "Area", "Areas"]

#: What a ranking's name ends with where a model of random weights made it and is pruned by it.
RANDOM_WEIGHTS = " (random weights)"
#: What rankings of random weights are held against: the same model before anything is removed.
WHOLE_PANEL = "whole panel"


@dataclass(frozen=True)
class Area:
    """The area between two curves: over all cells, its 95 % interval, and what that is over.

    `over` is "donors", "draws", or None where there is no interval (NaN); `n_donors` have both
    curves.
    """

    area: float
    low: float
    high: float
    over: str | None
    n_donors: int


@dataclass(frozen=True)
class Areas:
    """Areas under the curves of one order, arm and metric.

    Attributes
    ----------
    of_draws
        Ranking -> (draws,) area under its curve, over all cells.
    of_donors
        Ranking -> area under the mean of its draws, by donor, over that donor's cells.
    of_sides
        The same of what the donors of the input and of the baseline contribute (see `SIDES`); or
        nothing.
    weight
        Of those contributions.
    """

    of_draws: Mapping[str, np.ndarray]
    of_donors: Mapping[str, pd.Series]
    of_sides: Sequence[Mapping[str, pd.Series]] = ()
    weight: float = 1.0

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        by_donor: pd.DataFrame | None,
        by_side: Sequence[pd.DataFrame] = (),
        weight: float = 1.0,
    ) -> Areas:
        """Those of points of all cells, of single donors, and of what each side contributes.

        Only shares at which every ranking was measured count; of donors those with all of them.
        """
        points = _with_whole_panel(frame)
        wide = points.pivot_table(index=["ranking", "draw"], columns="ratio", values="value")
        wide = wide.dropna(axis=1)
        if wide.shape[1] < 2:
            return cls({}, {})
        under = _under(wide)
        of_draws = {str(name): mine.to_numpy() for name, mine in under.groupby(level="ranking")}
        of_donors = {} if by_donor is None else _of_donors(by_donor, wide.columns)
        of_sides = [_of_donors(side, wide.columns) for side in by_side]
        return cls(of_draws, of_donors, of_sides, weight)

    def between(self, ranking: str, other: str) -> Area | None:
        """How much larger the area under `ranking` is than that under `other`; None without it.

        The interval is over donors where three have both curves, or three of each side; otherwise
        over the draws of both rankings, those of one alone where the other is no drawn one.
        """
        if ranking not in self.of_draws or other not in self.of_draws:
            return None
        own, its = self.of_draws[ranking], self.of_draws[other]
        area = float(own.mean() - its.mean())
        if ranking == other:  # its mean is no different from itself: how far single draws are off
            return _over_draws(area, mean_interval(own.mean() - own), 0)
        off_d = _off(self.of_donors, ranking, other)
        if len(off_d) >= LEAST:
            return Area(area, *mean_interval(off_d), "donors", len(off_d))
        if self.of_sides:
            off_input, off_baseline = (_off(side, ranking, other) for side in self.of_sides)
            low, high = side_interval(off_input, off_baseline, self.weight)
            if np.isfinite(low):
                return Area(area, low, high, "donors", len(off_input) + len(off_baseline))
        if min(len(own), len(its)) == 1:
            return _over_draws(area, mean_interval(own - its), len(off_d))
        reach = welch_reach(own, its)
        return _over_draws(area, (area - reach, area + reach), len(off_d))


def _over_draws(area: float, ends: tuple[float, float], n_donors: int) -> Area:
    return Area(area, *ends, "draws" if np.isfinite(ends[0]) else None, n_donors)


def _off(under: Mapping[str, pd.Series], ranking: str, other: str) -> np.ndarray:
    """(donors,) area between two curves, of donors that have both."""
    if ranking not in under or other not in under:
        return np.empty(0)
    off: np.ndarray = (under[ranking] - under[other]).dropna().to_numpy()
    return off


def _of_donors(frame: pd.DataFrame, ratios: pd.Index) -> dict[str, pd.Series]:
    """Ranking -> area under the mean curve of its draws, by donor with a whole curve."""
    points = _with_whole_panel(frame)
    drawn = points.groupby(["ranking", "donor", "ratio"], sort=False)["value"].mean()
    under = _under(drawn.unstack("ratio").reindex(columns=ratios).dropna())
    return {str(name): mine.droplevel("ranking") for name, mine in under.groupby(level="ranking")}


def _under(wide: pd.DataFrame) -> pd.Series:
    """The area under each row, a curve over the ratios that are the columns."""
    return pd.Series(np.trapezoid(wide.to_numpy(), wide.columns.to_numpy(), axis=1), wide.index)


def _with_whole_panel(frame: pd.DataFrame) -> pd.DataFrame:
    """The points and, where there are random weights, a level line of these on the whole panel."""
    null: pd.DataFrame = frame[
        frame["ranking"].str.endswith(RANDOM_WEIGHTS) & (frame["ratio"] == 0)
    ]
    if null.empty:
        return frame
    whole = null[null["ranking"] == null["ranking"].iloc[0]].assign(ranking=WHOLE_PANEL)
    level = whole.drop(columns="ratio").merge(frame[["ratio"]].drop_duplicates(), how="cross")
    joined: pd.DataFrame = pd.concat([frame, level], ignore_index=True)
    return joined
