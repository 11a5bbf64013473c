"""Gene scores of several runs in one table: donors are the replicates, whatever held them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.errors import RankingError
from gradgene.genes.crossing import CrossingSums
from gradgene.genes.statistics import benjamini_hochberg, crossed_interval, donor_interval
from gradgene.genes.sums import GeneSums

__all__ = ["DonorScores", "pool_donors"]

#: What a donor of baseline cells adds to the scores of others, by side; see `Crossing`.
CROSSED = ("baseline_sum", "baseline_weight", "both_sum", "both_weight")
COLUMNS = ("donor", "gene", "n_pairs", "score", *CROSSED)


@dataclass(frozen=True)
class DonorScores:
    """What one run found in each of the donors it held out.

    Attributes
    ----------
    frame
        One row a donor and gene: `donor`, `gene`, `n_pairs` with input cells of the donor, `score`
        its mean over them, absent genes counting as 0 (null for a donor of baseline cells alone);
        `baseline_sum, baseline_weight, both_sum, both_weight`: sums of scores, each over the pairs
        of its input cell's donor, and of these weights, over the pairs with a baseline cell of the
        donor and over those with both cells of it (0 without any, or where baseline cells have no
        part in the scores).
    score_key
        What the scores are, and of which settings. Others are not pooled.

    Raises
    ------
    RankingError
        If a column is missing, or a donor has a gene twice.
    """

    frame: pd.DataFrame
    score_key: str

    def __post_init__(self) -> None:
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise RankingError(f"the scores of donors lack {', '.join(missing)}")
        if self.frame.duplicated(["donor", "gene"]).any():
            raise RankingError("a donor has two scores of one gene")

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> DonorScores:
        """From what `gradgene attribute` leaves in `attributions/donors.parquet`."""
        return cls(table, "; ".join(sorted(set(table["score_key"].astype(str)))))

    @classmethod
    def of(cls, sums: GeneSums, genes: Sequence[str], score_key: str) -> DonorScores:
        """The scores of the main importance in the donors of `sums`; features begin with `genes`.

        Raises `RankingError` where no donor is known.
        """
        if not sums.n_donors:
            raise RankingError("no donor is known")
        n = len(genes)
        columns = {"score": (sums.donors, sums.donor_means(sums.main)[:, :n])}
        counts = (sums.donors, np.repeat(sums.n_pairs_d[:, None], n, axis=1))
        columns["n_pairs"] = counts
        crossed = sums.crossed_of(None)
        for side in ("baseline", "both") if crossed is not None else ():
            donors, sums_df, weights_d = crossed.side(side)  # type: ignore[union-attr]
            columns[f"{side}_sum"] = (donors, sums_df[:, :n])
            columns[f"{side}_weight"] = (donors, np.repeat(weights_d[:, None], n, axis=1))
        everyone = sorted({d for donors, _ in columns.values() for d in donors})
        frame = pd.DataFrame(
            {
                "donor": np.repeat(np.array(everyone, dtype=object), n),
                "gene": [*genes] * len(everyone),
            }
        )
        for name in COLUMNS[2:]:
            donors, values_dg = columns.get(name, ((), np.zeros((0, n))))
            whole = pd.DataFrame(values_dg, index=list(donors)).reindex(everyone)
            frame[name] = (whole if name == "score" else whole.fillna(0)).to_numpy().ravel()
        return cls(frame.astype({"n_pairs": np.int64}), score_key)


def pool_donors(runs: Sequence[DonorScores]) -> pd.DataFrame:
    """Mean over all donors of all runs with its interval (`crossed_interval`), best gene first.

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
    kinds = sorted({run.score_key for run in runs})
    if len(kinds) != 1:
        raise RankingError("only scores of one kind can be pooled", found="; ".join(kinds))
    whole = pd.concat([run.frame.assign(run=i) for i, run in enumerate(runs)])
    known = whole.dropna(subset="score")
    # A pivot keeps donors and genes in order of name, NaN where no run knows the gene there.
    means_dg = known.pivot_table(index="donor", columns="gene", values="score", aggfunc="mean")
    crossed = {
        name: whole.pivot_table(index="donor", columns="gene", values=name, aggfunc="mean")
        for name in CROSSED
    }
    parts = []
    # Genes that rest on the same donors share a formula.
    patterns_gd = np.hstack(
        [means_dg.notna().T, crossed["baseline_weight"][means_dg.columns].notna().T]
    )
    patterns, of_g = np.unique(patterns_gd, axis=0, return_inverse=True)
    for number in range(len(patterns)):
        genes = means_dg.columns[of_g.ravel() == number]
        mine = {name: frame[genes].dropna(how="all") for name, frame in crossed.items()}
        parts.append(_interval(means_dg[genes].dropna(how="all"), mine))
    table = pd.concat(parts)
    table["n_runs"] = whole.groupby("gene")["run"].nunique()
    table["p_adjusted"] = benjamini_hochberg(table["p"].to_numpy())
    table = table.rename_axis("gene").reset_index()
    order = np.lexsort((table["gene"].to_numpy(dtype=str), -table["score"].to_numpy()))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(1, "rank", np.arange(1, len(table) + 1))
    first = ["gene", "rank", "score", "se", "ci_low", "ci_high", "p", "p_adjusted"]
    return table[[*first, "n_donors", "n_runs"]]


def _interval(means_dg: pd.DataFrame, crossed: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Statistics of genes that are all known in all these donors."""
    values_dg = means_dg.to_numpy()
    sides = [("input", means_dg.index, values_dg, np.ones(len(values_dg)))]
    for side in ("baseline", "both"):
        sums, weights = crossed[f"{side}_sum"], crossed[f"{side}_weight"]
        sides.append((side, weights.index, sums.to_numpy(), weights.iloc[:, 0].to_numpy()))
    if any(weights_d.any() for _, _, _, weights_d in sides[1:]):
        rows = [pd.DataFrame({"side": s, "donor": d, "label": None}) for s, d, _, _ in sides]
        found = crossed_interval(
            CrossingSums(
                pd.concat(rows, ignore_index=True),
                np.concatenate([sums_dg for _, _, sums_dg, _ in sides]),
                np.concatenate([weights_d for _, _, _, weights_d in sides]),
            )
        )
    else:
        found = donor_interval(values_dg)
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
