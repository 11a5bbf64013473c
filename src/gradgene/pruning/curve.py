"""The noun of pruning: a metric against the share of genes removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from gradgene import plotting
from gradgene.errors import RankingError

__all__ = ["CURVE_COLUMNS", "PruningCurve"]

CURVE_COLUMNS = (
    "ranking draw order ratio arm metric value ci_low ci_high n_cells n_donors rank_source split "
    "seed"
).split()


@dataclass(frozen=True)
class PruningCurve:
    """Curves of several rankings; `frame` has the columns `CURVE_COLUMNS`."""

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [c for c in CURVE_COLUMNS if c not in self.frame.columns]
        if missing:
            raise RankingError(f"the pruning curve lacks {', '.join(missing)}")

    def to_pandas(self) -> pd.DataFrame:
        """A copy of the curves."""
        return self.frame.copy()

    def value(
        self, ranking: str, order: str, ratio: float, metric: str = "balanced_accuracy"
    ) -> float:
        """Mean over draws of one point of the curve over both arms; NaN if it was not measured."""
        f = self.frame
        at = (f["ranking"] == ranking) & (f["order"] == order) & np.isclose(f["ratio"], ratio)
        return float(f.loc[at & (f["arm"] == "both") & (f["metric"] == metric), "value"].mean())

    def summary(self) -> pd.DataFrame:
        """Area between each ranking's curve and the mean random curve, by order, arm and metric.

        Positive areas mean that more of the metric was kept than by random genes. The interval
        is a t-interval over the random draws (null with fewer than three).
        """
        rows = []
        for keys, frame in self.frame.groupby(["order", "arm", "metric"], sort=False):
            wide = frame.pivot_table(index="ratio", columns=["ranking", "draw"], values="value")
            wide = wide.dropna()
            if "random" not in wide.columns.get_level_values(0) or len(wide) < 2:
                continue
            random = wide["random"]
            for ranking in wide.columns.get_level_values(0).unique():
                mean = wide[ranking].mean(axis=1)
                areas = np.trapezoid(random.rsub(mean, axis=0), wide.index.to_numpy(), axis=0)
                low, high = _t_interval(areas)
                rows.append((ranking, *keys, float(areas.mean()), low, high))
        return pd.DataFrame(rows, columns="ranking order arm metric area ci_low ci_high".split())

    def plot(self, order: str = "lowest_first", metric: str = "balanced_accuracy") -> Figure:
        """One line per ranking against the share of genes removed."""
        return plotting.pruning_curves(self.frame, order, metric=metric)


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 3:
        return float("nan"), float("nan")
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)
