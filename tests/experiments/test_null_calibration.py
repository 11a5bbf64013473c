"""Counting what permuted runs call significant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.null_calibration import hits, tabulate, verdict
from gradgene.genes.pooling import COLUMNS

NAN = float("nan")


def genes(*p: float, adjusted: float = 1.0, null: float = 1.0) -> pd.DataFrame:
    frame = pd.DataFrame({"rank": np.arange(1, len(p) + 1), "p": p})
    return frame.assign(p_adjusted=adjusted, p_null=null)


def write(folder: Path, seed: int | None, table: pd.DataFrame, **settings: object) -> Path:
    (folder / "attributions").mkdir(parents=True)
    config = {"pairs": {"permute_labels": seed, "per_cell": 1}, "paths": str(folder), **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    phenotype = pd.DataFrame({"rank": [NAN], "p": [0.0], "p_adjusted": [0.0], "p_null": [0.0]})
    pd.concat([table, phenotype]).to_parquet(folder / "attributions" / "genes.parquet")
    return folder


def test_shares_of_tested_and_of_scored_genes() -> None:
    found = hits(genes(0.01, 0.2, 0.5, 0.05, NAN, adjusted=0.04))
    assert (found["genes"], found["tested"]) == (5, 4)
    assert (found["share"], found["share_scored"]) == (0.25, 0.2)
    assert (found["adjusted"], found["null"]) == (5, 0)


def test_no_gene_tested() -> None:
    found = hits(genes(NAN, NAN))
    assert np.isnan(found["share"]) and found["share_scored"] == 0


def test_the_true_run_comes_last_and_does_not_count(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / "true", None, genes(0.0, 0.0, adjusted=0.0)),
        write(tmp_path / "b", 10, genes(0.01, 0.5)),
        write(tmp_path / "a", 2, genes(0.3, 0.5)),
    ]
    table = tabulate(runs)
    assert list(table.index) == [2, 10, "true"]
    assert list(table["share"]) == [0.0, 0.5, 1.0]
    assert list(table["genes"]) == [2, 2, 2], "phenotypes are no genes"
    said = verdict(table)
    assert said.startswith("2 permutations: mean share of genes with p < 0.05 0.250")
    assert "an adjusted hit in 0" in said and said.endswith("NOT calibrated")
    assert verdict(table[table.index == 2]).endswith(": calibrated")
    assert verdict(table[table.index == "true"]) == "no permuted run"


def test_adjusted_hits_count_by_run() -> None:
    rows = [hits(genes(*[0.5] * 99, 0.01, adjusted=0.01 if i < 2 else 1.0)) for i in range(20)]
    table = pd.DataFrame(rows)
    assert "an adjusted hit in 2," in verdict(table) and "NOT" in verdict(table)
    assert verdict(table.iloc[1:]).endswith("NOT calibrated"), "1 of 19 is more than 1 of 20"
    assert verdict(pd.concat([table.iloc[1:], table.iloc[[-1]]])).endswith(": calibrated")


def test_mixed_runs_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one", 0, genes(0.1, 0.2))
    other = write(tmp_path / "other", 1, genes(0.1, 0.2), attribution="gim")
    with pytest.raises(SystemExit, match=r"other.*other settings.*attribution"):
        tabulate([one, other])
    with pytest.raises(SystemExit, match="second run of permutation 0"):
        tabulate([one, write(tmp_path / "again", 0, genes(0.1, 0.2))])


def test_folds_of_a_permutation_are_pooled(tmp_path: Path) -> None:
    score_key = {"score_key": "a"}
    folders = []
    for fold, donors in enumerate((["d1", "d2"], ["d3"])):
        data = {"holdout_donors": donors}
        folder = write(tmp_path / f"fold_{fold}", 3, genes(NAN), data=data)
        rows = [
            {"donor": d, "gene": "A", "n_pairs": 1, **dict.fromkeys(COLUMNS[3:], 1.0), **score_key}
            for d in donors
        ]
        scores = pd.DataFrame(rows)
        scores["score"] += 0.01 * scores["donor"].str[1].astype(int)
        scores["baseline_sum"] = scores["both_sum"] = scores["score"]
        scores.to_parquet(folder / "attributions" / "donors.parquet")
        folders.append(folder)
    table = tabulate(folders)
    assert list(table.index) == [3] and list(table["genes"]) == [1]
    assert list(table["share"]) == [1.0] and list(table["adjusted"]) == [1]
