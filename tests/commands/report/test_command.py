"""`gradgene report` of several runs: medians, and one gene table over all their donors."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from gradgene.commands.main import main

#: Both cells of every pair are of one donor.
WITHIN = {"baseline_weight": 1.0, "both_weight": 1.0}
SCORES = ("score", "baseline_sum", "both_sum")
WHAT = {"score_key": "deeplift/forward 123"}


def run_folder(folder: Path, scores: dict[str, dict[str, float]], change: float) -> Path:
    """What the report reads of a run that held out the donors of `scores`."""
    (folder / "attributions").mkdir(parents=True)
    (folder / "config.yaml").write_text("study: {name: toy}\n")
    (folder / "metrics.json").write_text('{"test/accuracy": 0.5}')
    rows = [
        {
            "donor": d,
            "gene": g,
            "n_pairs": 2,
            "score": s,
            **WITHIN,
            "baseline_sum": s,
            "both_sum": s,
            **WHAT,
        }
        for d, genes in scores.items()
        for g, s in genes.items()
    ]
    pd.DataFrame(rows).to_parquet(folder / "attributions" / "donors.parquet")
    pairs = [(i, d) for i, d in enumerate([*scores, *scores])]
    pd.DataFrame(pairs, columns=["pair", "donor_baseline"]).to_parquet(
        folder / "attributions" / "pairs.parquet"
    )
    genes = sorted({g for values in scores.values() for g in values})
    table = pd.DataFrame({"gene": genes, "score": 1.0, "rank": range(1, len(genes) + 1)})
    table = table.assign(log_fold_change=change, direction="up" if change > 0 else "down")
    table.to_parquet(folder / "attributions" / "genes.parquet")
    return folder


@pytest.fixture
def folds(tmp_path: Path) -> list[str]:
    """Two runs, of two donors and of one."""
    first = {"d1": {"A": 1.0, "B": 0.1}, "d2": {"A": 1.5, "B": -0.2}}
    made = [
        run_folder(tmp_path / "fold_0", first, 2.0),
        run_folder(tmp_path / "fold_1", {"d3": {"A": 2.5, "B": 0.3}}, -1.0),
    ]
    return [str(folder) for folder in made]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_donors_are_pooled(
    folds: list[str], tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"genes.{kind}"
    assert main(["report", *folds, f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "best genes over 3 donors" in said and str(out) in said
    assert "agreement of the runs" in said
    table = pd.read_csv(out) if kind == "csv" else pd.read_parquet(out)
    low, high = stats.ttest_1samp([1.0, 1.5, 2.5], 0).confidence_interval()
    best = table.set_index("gene").loc["A"]
    assert (best["ci_low"], best["ci_high"]) == pytest.approx((low, high))
    assert best["rank"] == 1 and best["direction"] == "up"
    assert best["log_fold_change"] == pytest.approx((4 * 2.0 - 2 * 1.0) / 6)


def test_runs_without_scores_of_donors(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(folds[0]) / "attributions" / "donors.parquet").unlink()
    assert main(["report", *folds]) == 0
    said = capsys.readouterr().out
    assert "agreement of the runs" in said and "best genes" not in said
    assert main(["report", *folds, f"out={tmp_path / 'x.csv'}"]) == 2
    assert "no scores of donors that can be pooled" in capsys.readouterr().err


def test_runs_of_different_kinds_are_joined_but_not_pooled(
    folds: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(folds[0]) / "attributions" / "donors.parquet"
    pd.read_parquet(file).assign(score_key="gim/contrast 123").to_parquet(file)
    assert main(["report", *folds]) == 0
    said = capsys.readouterr().out
    assert "2 runs" in said and "best genes" not in said
    assert "agreement of the runs" in said
    assert main(["report", *folds, f"out={tmp_path / 'x.csv'}"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=x.txt"], "no such kind of table"),
        (["name=x"], "no such setting"),
    ],
)
def test_bad_settings(
    folds: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *folds, *words]) == 2
    assert message in capsys.readouterr().err


def test_out_is_for_several_runs(folds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", folds[0], "out=x.csv"]) == 2
    assert "several runs" in capsys.readouterr().err
    assert not (Path(folds[0]) / "report.html").exists()
