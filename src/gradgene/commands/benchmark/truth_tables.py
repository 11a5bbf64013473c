"""What the seeds of `gradgene benchmark truth` left on disk, judged and put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from gradgene.cells import PlantedGenes
from gradgene.commands.benchmark.truth_seed import (
    ARMS,
    MAIN_ARM,
    NO_MODEL,
    UNMATCHED,
    SeedJob,
    methods_of,
    seconds_of,
)
from gradgene.evaluation.truth import (
    TOP,
    judge_ranking,
    ranks_of_pairs,
)
from gradgene.genes import default_importance, mean_interval
from gradgene.pruning import GeneRanking

__all__ = ["RANKING", "Truth", "read_truth", "summary_of"]

#: What names a ranking over seeds.
RANKING = ["arm", "method", "importance", "ranking", "default"]
SEED = ["cells_seed", "model_seed"]
#: Figures whose spread over seeds is told: between 0 and 1, and others.
SHARES = ("auprc", "auprc_all", "recall", "xor_recall")
COUNTS = ("xor_rank", "decoys_top10", "batch_top10")
#: What the published study ranks by: arm and ranking.
PUBLISHED = (
    (MAIN_ARM, "grad_x_delta/paper_geometric"),
    (MAIN_ARM, "grad_x_delta/paper_mean"),
    ("empty", "grad_x_delta/paper_empty"),
)
#: `grad_x_delta` once more.
SAME = ("captum_deeplift",)


@dataclass(frozen=True)
class Truth:
    """The tables of all seeds.

    Attributes
    ----------
    rankings
        A row a ranking, draw and seed: `cells_seed, model_seed`, `RANKING`, `draw`, `n_pairs` and
        what `judge_ranking` gives, besides `batch_flagged`: batch genes whose flags say so, and
        `batch_unflagged`: those among the ten best whose flags do not (NaN without flags).
    summary
        A row a ranking, best first: the median of every figure over seeds (draws of a seed are
        averaged first), `<figure>_min` and `<figure>_max` of the important ones, of shares also
        `<figure>_low` and `_high` (`share_interval`), `n_seeds`.
    models
        A row a seed: `accuracy, bayes_accuracy, n_train, n_test, learnt, n_xor`.
    pairs
        A row a seed and planted pair, see `learnt_pairs`.
    xor_ranks
        A row a seed, ranking and gene of a pair: its rank.
    seconds
        A row a seed and part: `part, seconds`.
    """

    rankings: pd.DataFrame
    summary: pd.DataFrame
    models: pd.DataFrame
    pairs: pd.DataFrame
    xor_ranks: pd.DataFrame
    seconds: pd.DataFrame

    def tables(self) -> dict[str, pd.DataFrame]:
        """Name of the file -> table."""
        return {
            "truth": self.rankings,
            "summary": self.summary,
            "models": self.models,
            "pairs": self.pairs,
            "xor_ranks": self.xor_ranks,
            "seconds": self.seconds,
        }

    def of(self, arm: str, ranking: str) -> pd.DataFrame:
        """A row a seed of one ranking, draws averaged; empty where it was not run."""
        rows = self.rankings
        mine = rows[(rows["arm"] == arm) & (rows["ranking"] == ranking)]
        return _without_draws(mine).sort_values(SEED).reset_index(drop=True)

    def by_arm(self) -> pd.DataFrame:
        """The summary with the arms in the order of `ARMS`, but those of one method only."""
        rows = self.summary[self.summary["arm"] != UNMATCHED]
        return rows.sort_values(
            "arm", key=lambda arms: arms.map([*ARMS, NO_MODEL].index), kind="stable"
        )

    def overview(self) -> pd.DataFrame:
        """Rows of `rankings`: default rankings of the main arm, the published ones, and controls.

        The same method by another library (`SAME`) is left out; a published ranking of another
        arm has the arm in its name.
        """
        rows = self.rankings
        kept = rows["default"] & rows["arm"].isin([MAIN_ARM, NO_MODEL])
        kept &= ~rows["method"].isin(SAME)
        for arm, ranking in PUBLISHED:
            kept |= (rows["arm"] == arm) & (rows["ranking"] == ranking)
        found = _without_draws(rows[kept]).reset_index(drop=True)
        elsewhere = ~found["arm"].isin([MAIN_ARM, NO_MODEL])
        name = found["ranking"].where(~elsewhere, found["ranking"] + " (" + found["arm"] + ")")
        return found.assign(ranking=name)


def read_truth(seed_jobs: Sequence[SeedJob]) -> Truth:
    """Judge what these jobs have kept, and nothing else that lies in their folders."""
    parts = [_of_seed(job) for job in seed_jobs]
    rankings, models, pairs, ranks, seconds = (
        pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True)
    )
    return Truth(rankings, summary_of(rankings), models, pairs, ranks, seconds)


def summary_of(rankings: pd.DataFrame) -> pd.DataFrame:
    """One row a ranking over seeds, by falling median AUPRC; see `Truth.summary`."""
    by_seed = _without_draws(rankings)
    figures = [c for c in by_seed.columns if c not in (*RANKING, *SEED)]
    grouped = by_seed.groupby(RANKING, sort=False, dropna=False)
    summary = grouped[figures].median()
    for figure in (*SHARES, *COUNTS):
        summary[f"{figure}_min"] = grouped[figure].min()
        summary[f"{figure}_max"] = grouped[figure].max()
    for figure in SHARES:
        ends = [share_interval(values.to_numpy()) for _, values in grouped[figure]]
        summary[f"{figure}_low"], summary[f"{figure}_high"] = np.array(ends).T
    summary["n_seeds"] = grouped.size()
    best = summary.reset_index().sort_values("auprc", ascending=False, kind="stable")
    return best.reset_index(drop=True)


def share_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % t-interval of the mean log odds of shares (seeds,), as shares; NaN ones are left out.

    NaN with fewer than three, where all are equal, and where one is 0 or 1: such seeds cannot say
    how much others would differ, and their range is all that is known.
    """
    known = values[np.isfinite(values)]
    if not len(known) or np.ptp(known) == 0 or known.min() <= 0 or known.max() >= 1:
        return float("nan"), float("nan")
    low, high = mean_interval(logit(known))
    return float(expit(low)), float(expit(high))


def _without_draws(rankings: pd.DataFrame) -> pd.DataFrame:
    """The draws of one seed averaged."""
    by = [*SEED, *RANKING]
    figures = rankings.drop(columns="draw", errors="ignore")
    return figures.groupby(by, sort=False, dropna=False).mean().reset_index()


def _of_seed(job: SeedJob) -> tuple[pd.DataFrame, ...]:
    folder = Path(job.folder)
    planted = PlantedGenes.of(ad.read_h5ad(folder / "cells.h5ad", backed="r"))
    pairs = pd.read_parquet(folder / "learnt.parquet").drop(columns="key")
    known = pairs[pairs["learnt"]]
    learnt = frozenset(zip(known["gene_a"], known["gene_b"], strict=True))
    files = [folder / "rankings" / NO_MODEL / "controls.parquet"]
    for arm in job.arms:
        methods = methods_of(arm, job.methods)
        files += [folder / "rankings" / arm / f"{method}.parquet" for method in methods]
    judged, ranks = [], []
    for file in files:
        for _, rows in pd.read_parquet(file).groupby(["ranking", "draw"], sort=False):
            ranking, facts = _ranking(rows), rows.iloc[0]
            named = {column: facts[column] for column in RANKING if column != "default"}
            named["default"] = _is_default(named["arm"], named["method"], named["importance"])
            figures = judge_ranking(ranking, planted, learnt)
            draw = {"draw": facts["draw"], "n_pairs": facts["n_pairs"]}
            judged.append({**named, **draw, **figures, **_flagged(rows, ranking, planted)})
            ranks.append(ranks_of_pairs(ranking, planted).assign(**named, draw=facts["draw"]))
    accuracies = json.loads((folder / "model.json").read_text())
    model = {**accuracies, "learnt": len(learnt), "n_xor": len(planted.xor_pairs)}
    tables = (
        pd.DataFrame(judged),
        pd.DataFrame([model]),
        pairs,
        pd.concat(ranks, ignore_index=True),
        seconds_of(folder),
    )
    return tuple(_with_seed(table, job) for table in tables)


def _is_default(arm: str, method: str, importance: str) -> bool:
    """Whether a method is ranked so unless told otherwise; what is kept may be of another time."""
    return arm == NO_MODEL or importance == default_importance(method, ARMS[arm].baseline)


def _with_seed(table: pd.DataFrame, job: SeedJob) -> pd.DataFrame:
    table.insert(0, "cells_seed", job.cells_seed)
    table.insert(1, "model_seed", job.model_seed)
    return table


def _ranking(rows: pd.DataFrame) -> GeneRanking:
    first = rows.iloc[0]
    return GeneRanking(
        str(first["ranking"]), tuple(rows["gene"]), rows["score"].to_numpy(), int(first["draw"])
    )


def _flagged(rows: pd.DataFrame, ranking: GeneRanking, planted: PlantedGenes) -> dict[str, float]:
    """`batch_flagged` and `batch_unflagged`, see `Truth`; NaN where no flags were given."""
    if (rows["arm"] == NO_MODEL).all():
        return {"batch_flagged": float("nan"), "batch_unflagged": float("nan")}
    flags = rows.set_index("gene")["flags"]
    said = {g for g in planted.of_role("batch") if "batch" in str(flags[g] or "").split(";")}
    shown = planted.of_role("batch").intersection(ranking.top(TOP))
    return {"batch_flagged": float(len(said)), "batch_unflagged": float(len(shown - said))}
