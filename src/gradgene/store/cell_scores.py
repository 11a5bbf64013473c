"""What a query gives: a score a cell, the best cells, and where the best cells come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.errors import ConfigError, LabelError, closest
from gradgene.store.gene_weights import GeneWeights
from gradgene.store.hits import HitRules, HitTable, count_hits, hit_shares

__all__ = ["CellScores"]


@dataclass(frozen=True)
class CellScores:
    """Weighted mean of a gene set in every cell of a store.

    Attributes
    ----------
    cells
        Columns `part, cell, score`, then obs columns (one called like these three as `obs.<name>`).
    coverage
        One row a part: `part, run, data, coverage` (share of the weight that its genes have),
        `n_genes` found, `missing` (their names), `n_cells` scored.
    asked
        Genes and weights as given.
    """

    cells: pd.DataFrame
    coverage: pd.DataFrame
    asked: GeneWeights

    def __len__(self) -> int:
        return len(self.cells)

    def to_pandas(self) -> pd.DataFrame:
        """A copy of `cells`."""
        return self.cells.copy()

    def top(self, n: int = 20) -> pd.DataFrame:
        """The `n` cells of highest score, best first; equal ones in the order of the store.

        Raises
        ------
        ConfigError
            If `n` is below 1.
        """
        if n < 1:
            raise ConfigError("is too small", where="n", expected="at least 1", found=str(n))
        scores_n = self.cells["score"].to_numpy()
        n = min(n, len(scores_n))
        least = np.partition(scores_n, -n)[-n]  # of the best n; sorts only what is as good
        good = np.flatnonzero(scores_n >= least)
        best = good[np.argsort(-scores_n[good], kind="stable")[:n]]
        return self.cells.iloc[best].reset_index(drop=True)

    def hits(
        self,
        sample: str,
        label: str,
        *,
        share: float = 0.1,
        group: str | None = None,
        pooled: bool = False,
        rules: HitRules | None = None,
    ) -> HitTable:
        """Count the best cells in every sample and compare labels, sample by sample.

        Hits are the best `share` of the cells of a group. Where the last place is shared by cells
        of equal score, each of them is a hit in part, so that hits are exactly that share.

        Parameters
        ----------
        sample, label
            Obs columns: the independent unit (donor), and what is compared (disease).
        share
            Between 0 and 1.
        group
            Obs column: hits are the best within each of its labels (cell types, say).
        pooled
            Take the best of all parts together. Otherwise every part has its own: scores of
            different models are not in one unit.
        rules
            Sizes below which samples and labels are not compared, and the permutations.

        Raises
        ------
        ConfigError, LabelError
            For a share out of range, an unknown column, or no cell with sample and label.
        """
        if not 0 < share < 1:
            raise ConfigError("is no share", where="share", expected="0 to 1", found=str(share))
        for where, column in (("sample", sample), ("label", label), ("group", group)):
            if column is not None and column not in self.cells.columns:
                raise LabelError(
                    f"no obs column {column!r} in the scores",
                    where=where,
                    expected=f"one of {closest(column, self.cells.columns[3:])}",
                )
        units = [] if pooled else ["part"]
        keys = [*units, *([group] if group else [])]
        groups_n = (
            self.cells.groupby(keys, observed=True, sort=False, dropna=False).ngroup().to_numpy()
            if keys
            else np.zeros(len(self), dtype=np.int64)
        )
        of_part = self.coverage.set_index("part")["data"]
        cells = pd.DataFrame(
            {
                "data": self.cells["part"].astype(object).map(of_part),
                "sample": self.cells[sample].astype(object),
                "label": self.cells[label].astype(object),
                "hit": hit_shares(self.cells["score"].to_numpy(), groups_n, share),
            }
        )
        return count_hits(cells, rules or HitRules(), pooled)
