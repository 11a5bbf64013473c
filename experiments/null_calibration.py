"""Are the p-values of a gene table calibrated? Runs whose labels were permuted, beside true ones.

Make the runs with `gradgene attribute -m ... 'pairs.permute_labels=range(20)'`, which permutes the
labels of the target within donors before pairs are drawn, and once without, then:

    python experiments/null_calibration.py RUN [RUN …]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

#: Unadjusted and adjusted p-values below this count as hits.
LEVEL = 0.05
#: Share of genes below it that is still called calibrated, and adjusted hits in 20 permutations.
GOAL_SHARE, GOAL_RUNS = 0.07, 1


def read(folder: Path) -> tuple[Any, dict[str, Any], pd.DataFrame]:
    """Seed of the permutation (None for the true run), other settings, genes that were scored."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    seed = config["pairs"].pop("permute_labels", None)
    table = pd.read_parquet(folder / "attributions" / "genes.parquet")
    return seed, {**config, "paths": None}, table[table["rank"].notna()]


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
    """One row a run, indexed by the seed of its permutation or "true", permutations first.

    Raises
    ------
    SystemExit
        If the runs differ in more than the permutation, or one permutation is there twice.
    """
    runs = {folder: read(folder) for folder in folders}
    rows: dict[Any, dict[str, float]] = {}
    first = next(iter(runs.values()))[1]
    for folder, (seed, settings, genes) in runs.items():
        other = [key for key in settings if settings[key] != first.get(key)]
        if other:
            raise SystemExit(f"{folder}: other settings than {folders[0]}: {', '.join(other)}")
        name = "true" if seed is None else seed
        if name in rows:
            raise SystemExit(f"{folder}: a second run of permutation {name}")
        rows[name] = hits(genes)
    order = sorted(rows, key=lambda name: (name == "true", 0 if name == "true" else name))
    return pd.DataFrame([rows[name] for name in order], index=order)


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
