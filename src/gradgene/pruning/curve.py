"""The noun of pruning: a metric against the share of genes removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from gradgene import plotting
from gradgene.errors import RankingError
from gradgene.genes import mean_interval

__all__ = ["CURVE_COLUMNS", "DONOR_COLUMNS", "RANDOM_WEIGHTS", "SUMMARY_COLUMNS", "PruningCurve"]

CURVE_COLUMNS = (
    "ranking draw order ratio arm metric value ci_low ci_high n_cells n_donors rank_source split "
    "seed"
).split()
DONOR_COLUMNS = "ranking draw order ratio arm metric donor value".split()
SUMMARY_COLUMNS = "ranking order arm metric area ci_low ci_high interval_over n_donors".split()
#: What a ranking's name ends with where a model of random weights made it and is pruned by it.
RANDOM_WEIGHTS = " (random weights)"
#: So many draws or donors make an interval.
LEAST = 3


@dataclass(frozen=True)
class PruningCurve:
    """Curves of several rankings.

    Attributes
    ----------
    frame
        One row a point, with the columns `CURVE_COLUMNS`. Intervals are t-intervals of the mean
        over donors, where three donors have a value.
    by_donor
        The same points of each donor's cells alone, with the columns `DONOR_COLUMNS`; None where
        they are not known.
    """

    frame: pd.DataFrame
    by_donor: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        for frame, columns in ((self.frame, CURVE_COLUMNS), (self.by_donor, DONOR_COLUMNS)):
            missing = [] if frame is None else [c for c in columns if c not in frame.columns]
            if missing:
                raise RankingError(f"the pruning curve lacks {', '.join(missing)}")

    def to_pandas(self) -> pd.DataFrame:
        """A copy of the curves."""
        return self.frame.copy()

    def to_anndata(self, adata: ad.AnnData, key: str = "gradgene_pruning") -> None:
        """Write the curves to `adata.uns[key]`, a table that AnnData writes and reads.

        Labels and names are text there and what is missing is NaN.
        """
        frame = self.frame.reset_index(drop=True)
        for column in frame:
            numeric = pd.api.types.is_numeric_dtype(frame[column])
            frame[column] = frame[column].astype(float if numeric else str)
        adata.uns[key] = frame

    def value(
        self, ranking: str, order: str, ratio: float, metric: str = "balanced_accuracy"
    ) -> float:
        """Mean over draws of one point of the curve over both arms; NaN if it was not measured."""
        f = self.frame
        at = (f["ranking"] == ranking) & (f["order"] == order) & np.isclose(f["ratio"], ratio)
        return float(f.loc[at & (f["arm"] == "both") & (f["metric"] == metric), "value"].mean())

    def summary(self) -> pd.DataFrame:
        """Area between each ranking's curve and the mean random curve, by order, arm and metric.

        Positive areas mean that more of the metric was kept than by random genes (of
        `probability_drop`: that more was lost). `area` is of all cells together. The interval is a
        t-interval of the mean over donors of the area between the curves of that donor's cells
        (`interval_over` "donors"), where three donors have both curves whole. Where donors have one
        label each, that of balanced accuracy is Welch's, of half the mean of the input's donors and
        half that of the baseline's, three of each. Rankings of random weights have no area: the
        random curve is another model's. Otherwise, and for
        "random" itself, it is one over the random draws ("draws"), which says nothing of other
        donors; with fewer than three draws there is none (null).
        """
        rows = []
        donors = {} if self.by_donor is None else dict(_groups(self.by_donor))
        for keys, frame in _groups(self.frame):
            frame = frame[~frame["ranking"].str.endswith(RANDOM_WEIGHTS)]
            wide = frame.pivot_table(index="ratio", columns=["ranking", "draw"], values="value")
            wide = wide.dropna()
            if "random" not in wide.columns.get_level_values(0) or len(wide) < 2:
                continue
            of_donors = _donor_areas(donors[keys], wide.index) if keys in donors else {}
            of_sides = self._sides(keys, donors, wide.index)
            for ranking in wide.columns.get_level_values(0).unique():
                mean = wide[ranking].mean(axis=1)
                areas = np.trapezoid(wide["random"].rsub(mean, axis=0), wide.index, axis=0)
                by_donor = of_donors.get(str(ranking), np.empty(0))
                sides = [side.get(str(ranking), np.empty(0)) for side in of_sides]
                n_donors, over = len(by_donor), "donors"
                if n_donors >= LEAST:
                    low, high = mean_interval(by_donor)
                elif sides and min(map(len, sides)) >= LEAST:
                    (low, high), n_donors = _two_sided(*sides), sum(map(len, sides))
                else:
                    (low, high), over = mean_interval(areas), "draws"
                row = (ranking, *keys, float(areas.mean()), low, high)
                rows.append((*row, over if np.isfinite(low) else None, n_donors))
        return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)

    @staticmethod
    def _sides(
        keys: tuple[str, str, str],
        donors: dict[tuple[str, str, str], pd.DataFrame],
        ratios: pd.Index,
    ) -> list[dict[str, np.ndarray]]:
        """Areas of the accuracy of each arm's donors, where balanced accuracy is asked for."""
        order, arm, metric = keys
        wanted = [(order, side, "accuracy") for side in ("input", "baseline")]
        if (arm, metric) != ("both", "balanced_accuracy") or not set(wanted) <= set(donors):
            return []
        return [_donor_areas(donors[side], ratios) for side in wanted]

    def plot(self, order: str = "lowest_first", metric: str = "balanced_accuracy") -> Figure:
        """One line per ranking against the share of genes removed."""
        return plotting.pruning_curves(self.frame, order, metric=metric)


def _groups(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """(order, arm, metric) and the rows of each."""
    for (order, arm, metric), rows in frame.groupby(["order", "arm", "metric"], sort=False):
        yield (str(order), str(arm), str(metric)), rows


def _donor_areas(frame: pd.DataFrame, ratios: pd.Index) -> dict[str, np.ndarray]:
    """Ranking -> (donors,) area to random of each donor that has both curves at all ratios."""
    drawn = frame.groupby(["ranking", "donor", "ratio"], sort=False)["value"].mean()
    wide = drawn.unstack("ratio").reindex(columns=ratios).dropna()
    if "random" not in wide.index.get_level_values("ranking"):
        return {}
    random = wide.loc["random"]
    areas = {}
    for ranking in wide.index.get_level_values("ranking").unique():
        if ranking != "random":  # its mean is no different from itself
            off = (wide.loc[ranking] - random).dropna()
            areas[str(ranking)] = np.trapezoid(off.to_numpy(), ratios.to_numpy(), axis=1)
    return areas


def _two_sided(input_d: np.ndarray, baseline_d: np.ndarray) -> tuple[float, float]:
    """Welch's interval of half the mean of either side's donors (each at least two)."""
    parts = [float(side.var(ddof=1) / len(side)) for side in (input_d, baseline_d)]
    middle = (float(input_d.mean()) + float(baseline_d.mean())) / 2
    error = np.sqrt(sum(parts)) / 2
    if error == 0:
        return middle, middle
    below = [p**2 / (len(d) - 1) for p, d in zip(parts, (input_d, baseline_d), strict=True)]
    reach = float(stats.t.ppf(0.975, sum(parts) ** 2 / sum(below)) * error)
    return middle - reach, middle + reach
