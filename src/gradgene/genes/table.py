"""The ranked gene table: sort it, filter it, compare it, take it elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.errors import RankingError, closest
from gradgene.genes.compare import TableComparison, compare_genes
from gradgene.genes.flags import FLAGS
from gradgene.genes.table_files import read_gene_frame, write_gene_frame

__all__ = ["COLUMNS", "GeneTable"]

#: Columns of `genes.parquet`, in order (contracts).
COLUMNS = (
    "gene ensembl_id rank score score_present forward backward contrast paper_mean embedding "
    "presence mean_abs mean_abs_present direction log_fold_change score_donors se ci_low ci_high p "
    "p_adjusted p_null flags n_pairs n_cells n_donors zero_forward zero_backward zero_importance "
    "outlier between_baseline_variance depth_correlation explained_share method baseline target "
    "model split seed config_hash"
).split()


@dataclass(frozen=True)
class GeneTable:
    """Genes with their evidence, best first; `@category` rows of phenotypes have no rank.

    `frame` has the columns `COLUMNS`; scores are in the units of the explained scalar, positive
    where a gene speaks for the input's label (of `own_label` under a baseline that does not swap:
    for the label of the cell that it is in). Tables are never changed: what sorts or filters gives
    a new one. There genes keep the ranks they had, so that a filtered table still says how a gene
    stood among all; `rerank=True` counts ranks anew, from 1 in the order of the new table.
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise RankingError(f"the gene table lacks {', '.join(missing)}")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def genes(self) -> pd.DataFrame:
        """Only the rows of genes, by rank."""
        return self.frame[self.frame["rank"].notna()].sort_values("rank")

    def top(self, n: int = 30) -> list[str]:
        """Names of the `n` genes of best rank."""
        return [str(g) for g in self.genes["gene"].head(n)]

    def sort(self, by: str, *, ascending: bool = False, rerank: bool = False) -> GeneTable:
        """The rows in the order of a column: ties by name, nulls after them, phenotypes last.

        Raises `RankingError` for an unknown column.
        """
        self._require(by)
        is_gene = self._is_gene
        genes = self.frame[is_gene].sort_values("gene")
        genes = genes.sort_values(by, ascending=ascending, kind="stable", na_position="last")
        return self._of(pd.concat([genes, self.frame[~is_gene]]), rerank)

    def filter(
        self,
        keep: Callable[[pd.DataFrame], pd.Series | np.ndarray] | None = None,
        *,
        rerank: bool = False,
        **minimums: float,
    ) -> GeneTable:
        """Only the genes that fulfil every condition; rows of phenotypes stay.

        Parameters
        ----------
        keep
            Given the rows of genes, says of each whether it stays:
            `lambda genes: genes["p_adjusted"] < 0.05`. Null counts as no.
        rerank
            Count ranks anew.
        minimums
            Column -> least value: `filter(n_pairs=10, n_donors=3)`. Null counts as too little.

        Raises
        ------
        RankingError
            For an unknown column, one that holds no numbers, or a `keep` that does not answer
            every gene with true or false.
        """
        is_gene = self._is_gene.to_numpy()
        genes = self.frame[is_gene]
        stays = np.ones(len(genes), dtype=bool)
        for column, least in minimums.items():
            self._require(column)
            if not pd.api.types.is_numeric_dtype(genes[column]):
                raise RankingError(f"the column {column!r} holds no numbers to compare")
            stays &= (genes[column] >= least).fillna(False).to_numpy(dtype=bool)
        if keep is not None:
            stays &= _answers(keep(genes), genes)
        kept = ~is_gene
        kept[is_gene] = stays
        return self._of(self.frame[kept], rerank)

    def flagged(self, *words: str) -> GeneTable:
        """Only the genes with one of the flags, or with any where none is named.

        Raises `RankingError` for a word that is no flag.
        """
        has = self._has_flag(words)
        return self._of(self.frame[has & self._is_gene.to_numpy()], rerank=False)

    def without_flags(self, *words: str, rerank: bool = False) -> GeneTable:
        """The table without the genes that `flagged` sets apart.

        Raises `RankingError` for a word that is no flag.
        """
        return self._of(self.frame[~self._has_flag(words)], rerank)

    def compare(self, other: GeneTable, k: int = 30) -> TableComparison:
        """How far two tables agree over the genes that both have ranked.

        Raises `RankingError` if they share no gene or `k` is below 1.
        """
        return compare_genes(self.genes, other.genes, k)

    def write(self, path: Path | str) -> None:
        """Write the table as `.csv` or `.parquet`; both come back the same by `read`.

        Raises `RankingError` for another suffix.
        """
        write_gene_frame(self.frame, Path(path))

    @classmethod
    def read(cls, path: Path | str) -> GeneTable:
        """A table from a `.csv` or `.parquet` that `write` or a run wrote.

        Raises `RankingError` if the file is missing or unreadable, lacks a column, holds text in
        a column of numbers, or names a gene or a rank twice.
        """
        return cls(read_gene_frame(Path(path), COLUMNS))

    def to_pandas(self) -> pd.DataFrame:
        """A copy of the table."""
        return self.frame.copy()

    def to_anndata(self, adata: ad.AnnData, key: str = "gradgene") -> None:
        """Write scores and ranks to `adata.varm[key]` and what they are to `adata.uns[key]`.

        Genes of `adata` that are not in the table get NaN.

        Raises
        ------
        RankingError
            If not one gene of the table is among `adata.var_names`.
        """
        table = self.genes.set_index("gene")
        if not table.index.isin(adata.var_names.astype(str)).any():
            raise RankingError(
                "no gene of the table is among the var names",
                expected=f"names such as {', '.join(self.top(3))}",
                found=", ".join(map(str, adata.var_names[:3])),
                fix="set adata.var_names to the column given as data.gene_key",
            )
        numbers = table[["score", "rank"]].astype(float).reindex(adata.var_names.astype(str))
        adata.varm[key] = numbers.set_axis(adata.var_names)
        adata.uns[key] = {
            c: str(table[c].iloc[0]) for c in ("method", "baseline", "target", "split")
        }

    def plot(self, n: int = 30) -> Figure:
        """Bars of the `n` best genes with their intervals, coloured by direction."""
        return plotting.top_genes(self.genes, n)

    @property
    def _is_gene(self) -> pd.Series:
        return self.frame["rank"].notna()

    def _require(self, column: str) -> None:
        if column not in self.frame.columns:
            raise RankingError(
                f"the gene table has no column {column!r}",
                expected=f"one of {closest(column, self.frame.columns)}",
            )

    def _has_flag(self, words: Iterable[str]) -> np.ndarray:
        wanted = set(words)
        flags = [set(f.split(";")) if isinstance(f, str) else set() for f in self.frame["flags"]]
        known = {*FLAGS, *(word for has in flags for word in has)}
        for word in sorted(wanted - known):
            raise RankingError(
                f"no flag {word!r}", expected=f"one of {closest(word, sorted(known))}"
            )
        found = [bool(has & wanted if wanted else has) for has in flags]
        return np.array(found, dtype=bool)

    @staticmethod
    def _of(frame: pd.DataFrame, rerank: bool) -> GeneTable:
        frame = frame.reset_index(drop=True)
        if rerank:
            is_gene = frame["rank"].notna()
            frame["rank"] = is_gene.cumsum().where(is_gene).astype("Int64")
        return GeneTable(frame)


def _answers(found: pd.Series | np.ndarray, genes: pd.DataFrame) -> np.ndarray:
    """What a condition says of each gene, checked."""
    answers = found if isinstance(found, pd.Series) else pd.Series(found)
    if answers.index.is_unique and set(answers.index) == set(genes.index):
        answers = answers.reindex(genes.index)  # a Series answers by name, in whatever order
    known = answers.dropna().infer_objects()
    is_answer = known.empty or pd.api.types.is_bool_dtype(known)
    if len(answers) != len(genes) or not is_answer:
        raise RankingError(
            "a condition must answer every gene with true or false",
            expected=f"{len(genes)} times true or false",
            found=f"{len(answers)} values of {answers.dtype}",
        )
    return answers.fillna(False).to_numpy(dtype=bool)
