"""Several runs of one study, compared gene table by gene table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gradgene.commands.report.agreement import run_agreement
from gradgene.reports import RunFiles


def run(path: str, scores: dict[str, float] | None) -> RunFiles:
    genes = None
    if scores is not None:
        series = pd.Series(scores)
        genes = pd.DataFrame({"gene": series.index, "score": series.to_numpy(), "direction": "up"})
        genes["rank"] = genes["score"].rank(ascending=False).astype("Int64")
    return RunFiles(path=Path(path), genes=genes)


SCORES = {"a": 3.0, "b": 2.0, "c": 1.0}
TURNED = {"a": 1.0, "b": 2.0, "c": 3.0}


def test_runs_are_compared_two_by_two() -> None:
    runs = [run("sweep/0", SCORES), run("sweep/1", SCORES), run("sweep/2", TURNED)]
    found = run_agreement([*runs, run("sweep/3", None)], top_k=2)
    assert found is not None
    assert found[["first", "second"]].to_numpy().tolist() == [["0", "1"], ["0", "2"], ["1", "2"]]
    assert found["spearman"].tolist() == [1, -1, -1]
    assert found["top_overlap"].tolist() == [1, 0.5, 0.5]


def test_folders_of_one_name_are_told_by_their_paths() -> None:
    found = run_agreement([run("one/run", SCORES), run("two/run", SCORES)])
    assert found is not None
    assert found[["first", "second"]].to_numpy().tolist() == [["one/run", "two/run"]]


def ranked_by(path: str, ranking: dict[str, str], **scores: dict[str, float]) -> RunFiles:
    """A run of SCORES' gene table that ranks otherwise; name and scores of each ranking."""
    genes = run(path, SCORES).genes
    assert genes is not None
    frames = [
        pd.DataFrame({"ranking": name, "draw": draw, "gene": list(of), "score": list(of.values())})
        for name, of in scores.items()
        for draw in range(2)
    ]
    table = pd.concat(frames, ignore_index=True)
    table["rank"] = table.groupby(["ranking", "draw"])["score"].rank(ascending=False)
    # A later draw turns the ranking round; the first is compared.
    table.loc[table["draw"] == 1, "rank"] = 4 - table["rank"]
    genes = genes.assign(method="gim", baseline="zero")
    return RunFiles(path=Path(path), config={"ranking": ranking}, genes=genes, rankings=table)


def test_runs_of_other_rankings_are_compared_by_those() -> None:
    given = {"gim/contrast": SCORES, "gim/contrast/abs": TURNED, "deg": TURNED}
    by_gim, by_deg = ({"kind": kind, "importance": "contrast"} for kind in ("attribution", "deg"))
    runs = [ranked_by("a", by_gim, **given), ranked_by("b", by_deg, **given)]
    found = run_agreement(runs, top_k=2)
    assert found is not None and "sign_agreement" not in found
    assert found[["spearman", "top_overlap"]].to_numpy().tolist() == [[-1, 0.5]]
    magnitudes = ranked_by("c", {**by_gim, "sign": "absolute"}, **given)
    found = run_agreement([runs[0], magnitudes])
    assert found is not None and found["spearman"].tolist() == [-1]
    # Nothing is said of a run that has not made its ranking yet.
    assert run_agreement([runs[0], ranked_by("d", by_deg, hvg=SCORES)]) is None


def test_nothing_to_compare() -> None:
    assert run_agreement([run("a", SCORES), run("b", None)]) is None
    assert run_agreement([run("a", SCORES), run("b", {"z": 1.0})]) is None
