"""How stable the ranking of the main method is, and whether methods agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gradgene.commands.attribute.running import main_importance, ranking_of
from gradgene.commands.attribute.sampled_pairs import (
    held_out_pairs,
    sample_of,
    score_sample,
)
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.evaluation.agreement import consensus, correlations
from gradgene.evaluation.stability import (
    Plateau,
    Stability,
    donor_stability,
    pair_stability,
    plateau,
)
from gradgene.genes import DonorScores
from gradgene.pruning import RankingChoice
from gradgene.store import write_parquet

__all__ = ["measure_stability"]

#: A method that ranks by chance has no vote in a consensus.
NO_VOTE = ("random",)


def measure_stability(work: Workspace, settings: Stability) -> None:
    """Write `evaluation/{stability,agreement,consensus}.parquet` and their metrics.

    `stability.parquet` has rows of `kind` "pairs" (samples of pairs, where they are of two input
    cells or more) and "donors" (each left out), and is written where there are any;
    `consensus.parquet` is written where at least two methods have a vote.
    """
    absolute = _choice(work).sign == "absolute"
    pairs = _over_pairs(work, settings, absolute)
    donors = _over_donors(work, settings, absolute)
    found = plateau(pairs) if len(pairs) else None
    kinds = [pairs.assign(kind="pairs"), donors.assign(kind="donors")]
    facts: dict[str, Any] = {
        "method": work.settings.method.name,
        "importance": main_importance(work, work.settings).name,
        "top_k": settings.top_k,
        "seed": settings.seed,
    }
    made = [kind.assign(**facts) for kind in kinds if len(kind)]
    if made:
        file = work.folder / "evaluation" / "stability.parquet"
        write_parquet(pd.concat(made, ignore_index=True), file)
    work.add_metrics(_metrics(found, donors))
    _measure_agreement(work, settings)
    _tell(work, found)


def _over_pairs(work: Workspace, settings: Stability, absolute: bool) -> pd.DataFrame:
    """Samples of held-out pairs, attributed once more by the main method; empty where all are of
    one input cell.
    """
    cells, whole = held_out_pairs(work)
    plan = sample_of(whole, settings.n_pairs, settings.seed)
    with work.console.status(f"stability: {work.settings.method.name} on {len(plan)} pairs"):
        scores = score_sample(work, work.loaded.model, cells, plan)
    input_p = plan.input_rows[scores.kept]
    if len(np.unique(input_p)) < 2:
        return pd.DataFrame()
    return pair_stability(
        scores.scores_pg,
        input_p,
        n_draws=settings.n_draws,
        top_k=settings.top_k,
        seed=settings.seed,
        absolute=absolute,
    )


def _over_donors(work: Workspace, settings: Stability, absolute: bool) -> pd.DataFrame:
    """Each donor of all held-out pairs left out; empty where donors are unknown."""
    file = work.folder / "attributions" / "donors.parquet"
    if not file.is_file():
        return pd.DataFrame()
    donors = DonorScores.from_table(pd.read_parquet(file))
    return donor_stability(donors, settings.top_k, absolute=absolute)


def _measure_agreement(work: Workspace, settings: Stability) -> None:
    """Agreement of all rankings of the held-out pairs, and the consensus of the methods."""
    rankings = pd.read_parquet(work.folder / "attributions" / "rankings.parquet")
    facts = {"top_k": settings.top_k, "seed": work.facts.seed}
    folder = work.folder / "evaluation"
    agreed = correlations(rankings, settings.top_k)
    write_parquet(agreed.assign(**facts), folder / "agreement.parquet")
    voters = [ranking_of(work, a) for a in work.attributions if a.method.name not in NO_VOTE]
    if len(voters) < 2:
        return
    table = consensus(rankings, voters, settings.top_k)
    write_parquet(table.assign(**facts), folder / "consensus.parquet")
    others = agreed[agreed["first"].isin(voters) & agreed["second"].isin(voters)]
    others = others[others["first"] != others["second"]]
    metrics = {
        "agreement/n_methods": len(voters),
        "agreement/spearman": _middle(others["spearman"]),
        "agreement/top_overlap": _middle(others["top_overlap"]),
    }
    work.add_metrics(_known(metrics))


def _choice(work: Workspace) -> RankingChoice:
    choice: RankingChoice = build(work.cfg.ranking)
    return choice


def _middle(values: pd.Series) -> float:
    """Median of those that are known; NaN without any."""
    return float(values.dropna().median())


def _known(metrics: dict[str, float]) -> dict[str, float]:
    """Without those that there is no number of."""
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _metrics(found: Plateau | None, donors: pd.DataFrame) -> dict[str, float]:
    metrics: dict[str, float] = {}
    if found is not None:
        metrics = {
            "stability/n_pairs": found.n_most,
            "stability/spearman": found.spearman,
            "stability/top_overlap": found.top_overlap,
            "stability/can_tell": float(found.can_tell),
        }
    if found is not None and found.n_enough is not None:
        metrics["stability/n_pairs_enough"] = found.n_enough
    for against in ("all", "donor") if len(donors) else ():
        mine = donors[donors["against"] == against]
        name = "left_out" if against == "all" else "of_others"
        metrics[f"stability/donor_{name}_spearman"] = _middle(mine["spearman"])
        metrics[f"stability/donor_{name}_top_overlap"] = _middle(mine["top_overlap"])
    return _known(metrics)


def _tell(work: Workspace, found: Plateau | None) -> None:
    if found is None:
        work.console.print("[yellow]stability: pairs of one input cell cannot be halved[/]")
        return
    enough = "more pairs would still change the ranking"
    if not found.can_tell:
        enough = "too few pairs to tell whether more would change it"
    elif found.n_enough is not None:
        enough = f"{found.n_enough} pairs are enough"
    work.console.print(
        f"stability: rankings of {found.n_most} pairs each have a correlation of "
        f"{found.spearman:.2f} and share {found.top_overlap:.0%} of their best genes; {enough}"
    )
