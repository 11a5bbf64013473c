"""How alike several runs rank genes: of other seeds, other baselines or other held-out donors."""

from __future__ import annotations

import pandas as pd

from gradgene.evaluation import table_stability
from gradgene.reports import RunFiles

__all__ = ["run_agreement"]


def run_agreement(runs: list[RunFiles], top_k: int = 30) -> pd.DataFrame | None:
    """Agreement of the runs' gene tables, two by two; see `table_stability`.

    Runs are named by their folders, by the whole path where two folders have one name. None where
    fewer than two runs have a table, or where tables have no gene in common.

    Parameters
    ----------
    runs
        The runs.
    top_k
        How many best genes to compare.
    """
    with_genes = [run for run in runs if run.ranked_genes is not None]
    names = [run.path.resolve().name for run in with_genes]
    if len(set(names)) < len(names):
        names = [str(run.path) for run in with_genes]
    tables = {name: run.ranked_genes for name, run in zip(names, with_genes, strict=True)}
    frames = {name: table for name, table in tables.items() if table is not None and len(table)}
    shared = set.intersection(*(set(t["gene"]) for t in frames.values())) if frames else set()
    if len(frames) < 2 or not shared:
        return None
    return table_stability(frames, top_k)
