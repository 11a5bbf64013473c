"""How alike several runs rank genes: of other seeds, other baselines or other rankings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gradgene.evaluation import table_stability
from gradgene.reports import RunFiles

__all__ = ["run_agreement"]


def run_agreement(runs: Sequence[RunFiles], top_k: int = 30) -> pd.DataFrame | None:
    """Agreement of what the runs rank genes by, two by two; see `table_stability`.

    That is the gene table of each run. It has the scores of an attribution, so where a run is about
    another ranking or about magnitudes the main rankings of all runs are compared, by which they
    were pruned: the first draw of each, without `sign_agreement`.

    Runs are named by their folders, by the whole path where two folders have one name. None where
    fewer than two runs have a ranking, or where rankings have no gene in common.

    Parameters
    ----------
    runs
        The runs.
    top_k
        How many best genes to compare.
    """
    from_table = all(_in_gene_table(run) for run in runs)
    tables = [run.ranked_genes if from_table else _main_ranking(run) for run in runs]
    ranked = [(run, t) for run, t in zip(runs, tables, strict=True) if t is not None and len(t)]
    names = [run.path.resolve().name for run, _ in ranked]
    if len(set(names)) < len(names):
        names = [str(run.path) for run, _ in ranked]
    frames = dict(zip(names, (table for _, table in ranked), strict=True))
    shared = set.intersection(*(set(t["gene"]) for t in frames.values())) if frames else set()
    if len(frames) < 2 or not shared:
        return None
    found = table_stability(frames, top_k)
    return found if from_table else found.drop(columns="sign_agreement")


def _in_gene_table(run: RunFiles) -> bool:
    """Whether the run ranks genes as its gene table does."""
    about = run.section("ranking")
    return about.get("kind", "attribution") == "attribution" and about.get("sign") != "absolute"


def _main_ranking(run: RunFiles) -> pd.DataFrame | None:
    """The ranking that the run is about, best gene first; None where it was never made."""
    if run.rankings is None:
        return None
    mine = run.rankings[run.rankings["ranking"] == run.ranking_name]
    if "draw" in mine:
        mine = mine[mine["draw"] == mine["draw"].min()]
    return mine.assign(direction=None).sort_values("rank", ignore_index=True)
