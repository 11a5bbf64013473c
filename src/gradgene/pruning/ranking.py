"""The noun of pruning's input: an order of a model's genes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from gradgene.cells.user_files import read_table
from gradgene.errors import RankingError
from gradgene.genes import GeneTable

__all__ = ["GeneRanking", "RankingChoice", "RankingKind", "table_ranking"]

RankingKind = Literal[
    "attribution",
    "hvg",
    "hvg_batch",
    "deg",
    "deg_pseudobulk",
    "expression",
    "random",
    "table",
]


@dataclass(frozen=True)
class GeneRanking:
    """A total order of a gene panel.

    Parameters
    ----------
    name
        `<method>/<importance>[/abs]`, the name of a control (see `controls`), or `table`.
    genes
        The panel, in the order of the model's gene ids.
    scores_g
        (genes,) score of each; higher is more important. Ties are ordered by gene name.
    draw
        Number of the draw, for rankings that are drawn several times.
    """

    name: str
    genes: tuple[str, ...]
    scores_g: np.ndarray
    draw: int = 0

    def __post_init__(self) -> None:
        if self.scores_g.shape != (len(self.genes),):
            raise RankingError(
                f"ranking {self.name!r} does not fit the panel",
                expected=f"{len(self.genes)} scores",
                found=str(self.scores_g.shape),
            )
        if not np.isfinite(self.scores_g).all():
            raise RankingError(f"ranking {self.name!r} has NaN or infinite scores")

    @classmethod
    def from_table(cls, table: GeneTable, genes: tuple[str, ...]) -> GeneRanking:
        """The order of a gene table over a panel; panel genes it did not score come last.

        The ranking's scores are negated ranks, so that tables ranked by magnitude keep their order.
        """
        rank = table.genes.set_index("gene")["rank"].astype(float).reindex(list(genes))
        name = f"{table.frame['method'].iloc[0]}/table"
        return cls(name, genes, -rank.fillna(len(table) + 1).to_numpy())

    @classmethod
    def read(cls, frame: pd.DataFrame, genes: tuple[str, ...]) -> list[GeneRanking]:
        """Every ranking in rows as those of `to_pandas`, over a panel all of which they score."""
        return [
            cls(
                str(name),
                genes,
                part.set_index("gene")["score"].loc[list(genes)].to_numpy(),
                int(str(draw)),
            )
            for (name, draw), part in frame.groupby(["ranking", "draw"], sort=False)
        ]

    @property
    def best_first(self) -> np.ndarray:
        """(genes,) positions in the panel, most important first."""
        return np.lexsort((np.array(self.genes, dtype=str), -self.scores_g))

    def top(self, n: int) -> list[str]:
        """Names of the `n` most important genes."""
        return [self.genes[i] for i in self.best_first[:n]]

    def kept(self, ratio: float, order: str) -> np.ndarray:
        """(genes,) bool: what is left after removing a share `ratio` of the panel.

        `order` "lowest_first" removes the least important genes, "highest_first" the most
        important; the number kept is rounded.
        """
        n_kept = round((1 - ratio) * len(self.genes))
        best = self.best_first
        chosen = best[:n_kept] if order == "lowest_first" else best[len(best) - n_kept :]
        keep_g = np.zeros(len(self.genes), dtype=bool)
        keep_g[chosen] = True
        return keep_g

    def to_pandas(self, split: str) -> pd.DataFrame:
        """Rows `ranking, draw, gene, score, rank, split`, best first."""
        best = self.best_first
        return pd.DataFrame(
            {
                "ranking": self.name,
                "draw": self.draw,
                "gene": [self.genes[i] for i in best],
                "score": self.scores_g[best],
                "rank": np.arange(1, len(best) + 1),
                "split": split,
            }
        )


@dataclass(frozen=True)
class RankingChoice:
    """Which ranking a study is about: one leaf of `conf/ranking/`.

    Parameters
    ----------
    kind
        "attribution", a control, or "table" for a file of one's own.
    importance
        Importance of an attribution; None for the default of its method.
    sign
        "signed" ranks by score, "absolute" by its magnitude.
    file
        The table, for kind "table".
    by
        Category whose labels get gene tables of their own, such as the cell type; None for none.
    n_null
        How many times the labels of pairs are exchanged at random for the `p_null` of an
        attribution; 0 for no such test.
    """

    kind: RankingKind = "attribution"
    importance: str | None = None
    sign: Literal["signed", "absolute"] = "signed"
    file: str | None = None
    by: str | None = None
    n_null: int = 100

    def __post_init__(self) -> None:
        if (self.kind == "table") != (self.file is not None):
            raise RankingError(
                "kind 'table' and a file go together", where="ranking", fix="set ranking.file=..."
            )
        if self.n_null < 0 or self.n_null == 1:
            raise RankingError(
                "no spread can be told from so few exchanges of labels",
                where="ranking.n_null",
                expected="0 for none, or at least 2",
                found=str(self.n_null),
            )


def table_ranking(file: Path, genes: tuple[str, ...]) -> GeneRanking:
    """A ranking from any CSV or parquet with columns `gene, score`.

    Panel genes that the table lacks come last. Raises `RankingError` for a missing or unreadable
    file, a missing column, scores that are no numbers, or if no gene is in the panel.
    """
    frame = read_table(file, "ranking.file", ("gene", "score"), error=RankingError)
    if not pd.api.types.is_numeric_dtype(frame["score"]):
        raise RankingError("the column 'score' holds more than numbers", where=str(file))
    scores = frame.drop_duplicates("gene").set_index("gene")["score"].reindex(list(genes))
    if scores.isna().all():
        raise RankingError("no gene of the table is in the model's panel", where=str(file))
    return GeneRanking("table", genes, scores.fillna(scores.min() - 1).to_numpy(dtype=float))
