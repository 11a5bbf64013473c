"""The ranked gene table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.errors import RankingError
from gradgene.genes.statistics import benjamini_hochberg, donor_interval
from gradgene.genes.sums import GeneSums

__all__ = ["COLUMNS", "GeneTable", "build_gene_table"]

#: Columns of `genes.parquet`, in order (contracts).
COLUMNS = (
    "gene ensembl_id rank score score_present forward backward contrast paper_mean embedding "
    "presence mean_abs direction log_fold_change se ci_low ci_high p_adjusted p_null flags "
    "n_pairs n_cells n_donors zero_forward zero_backward zero_importance outlier method baseline "
    "target model split seed config_hash"
).split()

#: Columns that are copies of an accumulated quantity, null where the method has none.
QUANTITIES = ("forward", "backward", "contrast", "paper_mean", "embedding", "presence")


@dataclass(frozen=True)
class GeneTable:
    """Genes with their evidence, best first; `@category` rows of phenotypes have no rank.

    `frame` has the columns `COLUMNS`; scores are in the units of the explained scalar, positive
    where a gene speaks for the input's label.
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
        """Names of the `n` best genes."""
        return [str(g) for g in self.genes["gene"].head(n)]

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


def build_gene_table(
    sums: GeneSums,
    expression: pd.DataFrame,
    phenotypes: tuple[str, ...],
    importance: str,
    sign: str,
    facts: Mapping[str, Any],
) -> GeneTable:
    """Rank the genes of `expression` by one importance.

    Parameters
    ----------
    sums
        Accumulated scores; features are the genes of `expression` and then `phenotypes`.
    expression
        From `expression_of_pairs`.
    importance, sign
        Which quantity is the score; "absolute" ranks by its magnitude.
    facts
        Constant columns: method, baseline, target, model, split, seed, config_hash.

    Raises
    ------
    RankingError
        If the importance was not accumulated.
    """
    if importance not in sums.sums:
        raise RankingError(f"importance {importance!r} was not accumulated")
    n_genes = len(expression)
    interval = donor_interval(sums.donor_means(importance))
    score = sums.mean(importance)
    columns: dict[str, Any] = {
        "gene": [*expression["gene"], *(f"@{c}" for c in phenotypes)],
        "score": score,
        "score_present": sums.mean_present(importance),
        "mean_abs": sums.mean(f"{importance}/abs"),
        "se": interval.se,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "p_adjusted": _adjust_genes(interval.p, n_genes),
        "zero_forward": sums.mean_present("forward/zero"),
        "zero_backward": sums.mean_present("backward/zero"),
        "zero_importance": sums.mean_present(f"{importance}/zero"),
    }
    for quantity in QUANTITIES:
        columns[quantity] = sums.mean(quantity) if quantity in sums.sums else np.nan
    frame = pd.DataFrame(columns)
    frame = frame.merge(expression, on="gene", how="left")
    frame.loc[n_genes:, "n_pairs"] = sums.n_pairs
    return GeneTable(_rank(frame, n_genes, sign).assign(**facts)[COLUMNS])


def _adjust_genes(p: np.ndarray, n_genes: int) -> np.ndarray:
    """Adjust over genes only: phenotype tokens are not hypotheses of the table."""
    return np.concatenate([benjamini_hochberg(p[:n_genes]), np.full(len(p) - n_genes, np.nan)])


def _rank(frame: pd.DataFrame, n_genes: int, sign: str) -> pd.DataFrame:
    """Rank scored genes, mark outliers beyond the 1st and 99th percentile, phenotypes last."""
    phenotypes = frame.iloc[n_genes:].assign(rank=np.nan, outlier=None)
    genes = frame.iloc[:n_genes]
    genes = genes[genes["n_pairs"] > 0]
    key = genes["score"].abs() if sign == "absolute" else genes["score"]
    # Ties (mostly exact zeros) are ordered by name, so that a table never depends on file order.
    order = np.lexsort((genes["gene"].to_numpy(dtype=str), -key.to_numpy()))
    genes = genes.iloc[order]
    low, high = np.percentile(genes["score"], [1, 99]) if len(genes) else (0.0, 0.0)
    genes = genes.assign(
        rank=np.arange(1, len(genes) + 1),
        outlier=((genes["score"] < low) | (genes["score"] > high)).to_numpy(),
    )
    whole = pd.concat([genes.astype({"outlier": object}), phenotypes.astype({"outlier": object})])
    return whole.assign(
        rank=whole["rank"].astype("Int64"),
        outlier=whole["outlier"].astype("boolean"),
        n_pairs=whole["n_pairs"].astype("Int64"),
        n_cells=whole["n_cells"].astype("Int64"),
        n_donors=whole["n_donors"].astype("Int64"),
        p_null=np.nan,
        flags=None,
    ).reset_index(drop=True)
