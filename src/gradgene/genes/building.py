"""Make the gene table from sums over pairs and from what the cells show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradgene.errors import RankingError
from gradgene.genes.confounding import depth_correlation, explained_share
from gradgene.genes.statistics import (
    MIN_DONORS,
    benjamini_hochberg,
    crossed_interval,
    donor_interval,
    null_p,
)
from gradgene.genes.sums import GeneSums
from gradgene.genes.table import COLUMNS, GeneTable

__all__ = ["build_gene_table"]

#: Columns that are copies of an accumulated quantity, null where the method has none.
QUANTITIES = ("forward", "backward", "contrast", "paper_mean", "embedding", "presence")
#: Columns of the main importance alone.
OF_MAIN = ["p_null", "between_baseline_variance", "depth_correlation", "explained_share"]


def build_gene_table(
    sums: GeneSums,
    expression: pd.DataFrame,
    phenotypes: tuple[str, ...],
    importance: str,
    sign: str,
    facts: Mapping[str, Any],
    *,
    n_donors_baseline: int | None = None,
    flags: pd.Series | None = None,
) -> GeneTable:
    """Rank the genes of `expression` by one importance.

    Parameters
    ----------
    sums
        Accumulated scores; features are the genes of `expression` and then `phenotypes`.
    expression
        From `expression_of_pairs`.
    importance, sign
        Which quantity is the score; "absolute" ranks by its magnitude. What is known of the main
        importance of `sums` alone (null, spread among baselines, depth) is null for another.
    facts
        Constant columns: method, baseline, target, model, split, seed, config_hash.
    n_donors_baseline
        Donors of the baseline cells: with fewer than three on either side there is no interval.
        None where they are unknown or the scores rest on input cells alone: then only the donors
        of the input cells count.
    flags
        Gene -> technical flags joined by ";" or None.

    Raises
    ------
    RankingError
        If the importance was not accumulated.
    """
    if importance not in sums.sums:
        raise RankingError(f"importance {importance!r} was not accumulated")
    n_genes = len(expression)
    columns: dict[str, Any] = {
        "gene": [*expression["gene"], *(f"@{c}" for c in phenotypes)],
        "score": sums.mean(importance),
        "score_present": sums.mean_present(importance),
        "mean_abs": sums.mean(f"{importance}/abs"),
        "mean_abs_present": sums.mean_present(f"{importance}/abs"),
        "zero_forward": sums.mean_present("forward/zero"),
        "zero_backward": sums.mean_present("backward/zero"),
        "zero_importance": sums.mean_present(f"{importance}/zero"),
        **_donor_columns(sums, importance, n_genes, n_donors_baseline),
        **(_main_columns(sums, n_genes) if importance == sums.main else dict.fromkeys(OF_MAIN)),
    }
    columns |= {q: sums.mean(q) if q in sums.sums else np.nan for q in QUANTITIES}
    frame = pd.DataFrame(columns)
    frame[OF_MAIN] = frame[OF_MAIN].astype(np.float64)
    frame = frame.merge(expression, on="gene", how="left")
    frame.loc[n_genes:, "n_pairs"] = sums.n_pairs
    for column in ("ensembl_id", "direction"):  # merging leaves NaN where text has None
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    frame["flags"] = None if flags is None else _flags_of(frame["gene"], flags)
    return GeneTable(_rank(frame, n_genes, sign).assign(**facts)[COLUMNS])


def _donor_columns(
    sums: GeneSums, importance: str, n_genes: int, n_donors_baseline: int | None
) -> dict[str, np.ndarray]:
    """Mean, interval and test over donors of the input cells."""
    means_df = sums.donor_means(importance)
    both_sides = n_donors_baseline is None or n_donors_baseline >= MIN_DONORS
    crossed = sums.crossed_of(None) if importance == sums.main else None
    if crossed is not None:
        interval = crossed_interval(crossed)
    else:
        interval = donor_interval(means_df if both_sides else means_df[:0])
    nothing = np.full(means_df.shape[1], np.nan)
    return {
        "score_donors": means_df.mean(axis=0) if len(means_df) else nothing,
        "se": interval.se,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "p": interval.p,
        "p_adjusted": _adjust_genes(interval.p, n_genes),
    }


def _main_columns(sums: GeneSums, n_genes: int) -> dict[str, np.ndarray]:
    """What is accumulated of the main importance alone."""
    nothing = np.full(len(sums.mean(sums.main)), np.nan)
    p_null = nothing if sums.null is None else null_p(sums.mean(sums.main), sums.null)
    variance = nothing
    if sums.within_ss is not None and sums.within_dof:
        variance = sums.within_ss / sums.within_dof
    has_depth = sums.depth_g is not None
    return {
        "p_null": _adjust_genes(p_null, n_genes),
        "between_baseline_variance": variance,
        "depth_correlation": depth_correlation(sums) if has_depth else nothing,
        "explained_share": explained_share(sums) if has_depth else nothing,
    }


def _flags_of(genes: pd.Series, flags: pd.Series) -> pd.Series:
    """Flags in the order of `genes`, None where there is none."""
    found = genes.map(flags.dropna()).astype(object)
    return found.where(found.notna(), None)


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
    ).reset_index(drop=True)
