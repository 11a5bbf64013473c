"""Gene scores of several runs in one table: donors are the replicates, whatever held them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.errors import RankingError
from gradgene.genes.statistics import MIN_DONORS, benjamini_hochberg, donor_interval

__all__ = ["DonorScores", "pool_donors"]

COLUMNS = ("donor", "gene", "n_pairs", "score")


@dataclass(frozen=True)
class DonorScores:
    """What one run found in each of the donors it held out.

    Attributes
    ----------
    frame
        One row a donor and gene: `donor` of the input cells, `gene`, `n_pairs` of the donor,
        `score` its mean over them, absent genes counting as 0.
    baseline_donors
        Donors of the baseline cells.
    what
        What the scores are: method, importance, baseline and target. Others are not pooled.

    Raises
    ------
    RankingError
        If a column is missing, or a donor has a gene twice.
    """

    frame: pd.DataFrame
    baseline_donors: frozenset[str]
    what: str

    def __post_init__(self) -> None:
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise RankingError(f"the scores of donors lack {', '.join(missing)}")
        if self.frame.duplicated(["donor", "gene"]).any():
            raise RankingError("a donor has two scores of one gene")


def pool_donors(runs: Sequence[DonorScores]) -> pd.DataFrame:
    """Mean and t-interval over all donors of all runs, best gene first.

    A donor that several runs held out (seeds of one split) counts once, with its mean over them.
    A gene that a run's model does not know is unknown in the donors of that run, not 0, so genes
    may rest on different numbers of donors.

    Parameters
    ----------
    runs
        Runs of one study whose models were trained on different donors or with different seeds.

    Returns
    -------
    DataFrame
        `gene, rank, score` (mean of donor means), `se, ci_low, ci_high, p, p_adjusted` (null with
        fewer than three donors on a side), `n_donors` and `n_runs`.

    Raises
    ------
    RankingError
        If the runs do not score the same thing.
    """
    kinds = sorted({run.what for run in runs})
    if len(kinds) != 1:
        raise RankingError("only scores of one kind can be pooled", found="; ".join(kinds))
    whole = pd.concat([run.frame.assign(run=i) for i, run in enumerate(runs)])
    means_dg = whole.pivot_table(index="donor", columns="gene", values="score", aggfunc="mean")
    both_sides = len(frozenset().union(*(run.baseline_donors for run in runs))) >= MIN_DONORS
    parts = []
    # Genes that rest on the same donors share a formula.
    known_gd = means_dg.notna().to_numpy().T
    patterns, of_g = np.unique(known_gd, axis=0, return_inverse=True)
    for number, known_d in enumerate(patterns):
        mine = means_dg.loc[known_d, of_g.ravel() == number]
        parts.append(_interval(mine, both_sides))
    table = pd.concat(parts)
    table["n_runs"] = whole.groupby("gene")["run"].nunique()
    table["p_adjusted"] = benjamini_hochberg(table["p"].to_numpy())
    table = table.rename_axis("gene").reset_index()
    order = np.lexsort((table["gene"].to_numpy(dtype=str), -table["score"].to_numpy()))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(1, "rank", np.arange(1, len(table) + 1))
    first = ["gene", "rank", "score", "se", "ci_low", "ci_high", "p", "p_adjusted"]
    return table[[*first, "n_donors", "n_runs"]]


def _interval(means_dg: pd.DataFrame, both_sides: bool) -> pd.DataFrame:
    """Statistics of genes that are all known in all these donors."""
    values_dg = means_dg.to_numpy()
    found = donor_interval(values_dg if both_sides else values_dg[:0])
    return pd.DataFrame(
        {
            "score": values_dg.mean(axis=0),
            "se": found.se,
            "ci_low": found.low,
            "ci_high": found.high,
            "p": found.p,
            "n_donors": len(values_dg),
        },
        index=means_dg.columns,
    )
