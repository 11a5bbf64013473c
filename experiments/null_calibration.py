"""Are the p-values of a gene table calibrated? Runs whose labels were permuted, beside true ones.

Make the runs with `gradgene attribute -m ... 'pairs.permute_labels=range(20)'`, which permutes the
labels of the target within donors before pairs are drawn, and once without, then:

    python experiments/null_calibration.py RUN [RUN …]

Runs of one permutation that hold out different donors are pooled over their donors first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gradgene.genes import DonorScores, pool_donors

#: Unadjusted and adjusted p-values below this count as hits.
LEVEL = 0.05
#: Share of genes below it that is still called calibrated, and adjusted hits in 20 permutations.
GOAL_SHARE, GOAL_RUNS = 0.07, 1


def read(folder: Path) -> tuple[Any, list[str], dict[str, Any]]:
    """Seed of the permutation (None for the true run), donors held out, other settings."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    seed = config["pairs"].pop("permute_labels", None)
    donors = config.get("data", {}).pop("holdout_donors", None)
    # Each fold has a model and a panel of its own.
    config.get("checkpoint", {}).pop("path", None)
    return seed, donors, {**config, "paths": None}


def genes_of(folders: list[Path]) -> pd.DataFrame:
    """The genes that were scored, of one run or pooled over the donors of several."""
    if len(folders) == 1:
        table = pd.read_parquet(folders[0] / "attributions" / "genes.parquet")
        return table[table["rank"].notna()]
    tables = [pd.read_parquet(f / "attributions" / "donors.parquet") for f in folders]
    return pool_donors([DonorScores.from_table(table) for table in tables]).assign(p_null=np.nan)


def hits(genes: pd.DataFrame) -> dict[str, float]:
    """What one table calls significant; genes without a p-value are no hit.

    `share` is of the genes with a finite p, `share_scored` of all.
    """
    low = genes["p"] < LEVEL
    n_tested = int(genes["p"].notna().sum())
    return {
        "genes": len(genes),
        "tested": n_tested,
        "share": low.sum() / n_tested if n_tested else float("nan"),
        "share_scored": low.mean(),
        "adjusted": int((genes["p_adjusted"] < LEVEL).sum()),
        "null": int((genes["p_null"] < LEVEL).sum()),
    }


def tabulate(folders: list[Path]) -> pd.DataFrame:
    """One row a permutation, indexed by its seed or "true", permutations first.

    Raises
    ------
    SystemExit
        If the runs differ in more than permutation and donors, or a permutation is there twice.
    """
    runs = {folder: read(folder) for folder in folders}
    parts: dict[Any, dict[str, Path]] = {}
    first = next(iter(runs.values()))[2]
    for folder, (seed, donors, settings) in runs.items():
        other = [key for key in settings if settings[key] != first.get(key)]
        if other:
            raise SystemExit(f"{folder}: other settings than {folders[0]}: {', '.join(other)}")
        name = "true" if seed is None else seed
        if str(donors) in parts.setdefault(name, {}):
            raise SystemExit(f"{folder}: a second run of permutation {name}")
        parts[name][str(donors)] = folder
    order = sorted(parts, key=lambda name: (name == "true", 0 if name == "true" else name))
    return pd.DataFrame([hits(genes_of([*parts[name].values()])) for name in order], index=order)


def verdict(table: pd.DataFrame) -> str:
    """The mean share and the permutations with an adjusted hit, against what is asked for."""
    permuted = table[table.index != "true"]
    n_runs = len(permuted)
    if not n_runs:
        return "no permuted run"
    share, n_hit = permuted["share"].mean(), int((permuted["adjusted"] > 0).sum())
    n_null = int((permuted["null"] > 0).sum())
    fine = share <= GOAL_SHARE and n_hit <= GOAL_RUNS * n_runs / 20
    return (
        f"{n_runs} permutations: mean share of genes with p < {LEVEL:g} {share:.3f} (of all scored "
        f"{permuted['share_scored'].mean():.3f}); an adjusted hit in {n_hit}, one against the "
        f"exchanged pairs in {n_null}: {'calibrated' if fine else 'NOT calibrated'}"
    )


def main(folders: list[str]) -> None:
    """Print one row a run and the verdict."""
    table = tabulate([Path(folder) for folder in folders])
    print(table.round(4).to_string(), verdict(table), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
