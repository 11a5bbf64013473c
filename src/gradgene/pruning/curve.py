"""The noun of pruning: a metric against the share of genes removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.errors import RankingError
from gradgene.pruning.areas import RANDOM_WEIGHTS, WHOLE_PANEL, Area, Areas
from gradgene.pruning.sides import SIDES

__all__ = ["CURVE_COLUMNS", "DONOR_COLUMNS", "SUMMARY_COLUMNS", "PruningCurve"]

CURVE_COLUMNS = (
    "ranking draw order ratio arm metric value ci_low ci_high n_cells n_donors rank_source split "
    "seed"
).split()
DONOR_COLUMNS = "ranking draw order ratio arm metric donor value rank_source".split()
SUMMARY_COLUMNS = (
    "ranking order arm metric area ci_low ci_high interval_over n_donors rank_source against "
    "area_to_matched matched_low matched_high matched_over"
).split()
#: The ranking of `area_to_matched`: random genes of like expression and detection.
MATCHED = "random_matched"
NO_AREA = Area(np.nan, np.nan, np.nan, None, 0)


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
        label each, those of balanced accuracy and AUROC are Welch's, of what the donors of either
        label contribute (`SIDES`), three of each. Otherwise, and for "random" itself, it is over
        the draws of the random and of the ranking ("draws"), which says nothing of other donors;
        with fewer than three there is none (null).

        Rankings of random weights are held `against` their own model's whole panel (the random
        curve is another model's): what pruning by one's own scores gives to a model that knows
        nothing; they have no row where the grid lacks 0. All others are against "random".
        `area_to_matched`, `matched_low`, `matched_high` and `matched_over` are the same against
        "random_matched", NaN without it.
        """
        donors = {} if self.by_donor is None else dict(_groups(self.by_donor))
        rows = []
        for keys, frame in _groups(self.frame):
            side, (order, arm, metric) = SIDES.get(keys[2]), keys
            wanted = []
            if side is not None and arm == "both":
                wanted = [(order, one, side.metric) for one in ("input", "baseline")]
            by_side = [donors[key] for key in wanted] if set(wanted) <= set(donors) else []
            weight = 1.0 if side is None else side.weight
            areas = Areas.of(frame, donors.get(keys), by_side, weight)
            sources = frame.drop_duplicates("ranking").set_index("ranking")["rank_source"]
            for ranking, source in sources.sort_index().items():
                against = WHOLE_PANEL if str(ranking).endswith(RANDOM_WEIGHTS) else "random"
                found = areas.between(str(ranking), against)
                if found is None:
                    continue
                row = (ranking, order, arm, metric, *astuple(found), source, against)
                matched = areas.between(str(ranking), MATCHED) if against == "random" else None
                rows.append((*row, *astuple(matched or NO_AREA)[:4]))
        return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)

    def plot(self, order: str = "lowest_first", metric: str = "balanced_accuracy") -> Figure:
        """One line per ranking against the share of genes removed."""
        return plotting.pruning_curves(self.frame, order, metric=metric)


def _groups(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """(order, arm, metric) and the rows of each."""
    for (order, arm, metric), rows in frame.groupby(["order", "arm", "metric"], sort=False):
        yield (str(order), str(arm), str(metric)), rows
