"""Rankings are total orders, and a table is read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import RankingError
from gradgene.genes import GeneTable
from gradgene.genes.table import COLUMNS
from gradgene.pruning import (
    GeneRanking,
    RankingChoice,
    table_ranking,
)

PANEL = ("b", "a", "d", "c")


def test_ties_are_ordered_by_name() -> None:
    ranking = GeneRanking("x", PANEL, np.array([1.0, 1.0, 2.0, 1.0]))
    assert ranking.top(4) == ["d", "a", "b", "c"]
    assert ranking.best_first.tolist() == [2, 1, 0, 3]
    assert ranking.top(2) == ["d", "a"]
    signed_zeros = GeneRanking("x", PANEL, np.array([0.0, -0.0, 0.0, -0.0]))
    assert signed_zeros.top(4) == ["a", "b", "c", "d"]


def test_to_pandas_is_best_first() -> None:
    table = GeneRanking("m/forward", PANEL, np.array([0.5, -1.0, 2.0, 0.0]), 3).to_pandas("train")
    assert list(table["gene"]) == ["d", "b", "c", "a"]
    assert list(table["score"]) == [2.0, 0.5, 0.0, -1.0]
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert set(table["ranking"]) == {"m/forward"} and set(table["draw"]) == {3}
    assert set(table["split"]) == {"train"}


def test_what_was_written_is_read_back() -> None:
    made = [GeneRanking("random", PANEL, np.random.default_rng(i).random(4), i) for i in (0, 1)]
    made.append(GeneRanking("m/forward/abs", PANEL, np.array([0.5, -1.0, 2.0, 0.0])))
    found = GeneRanking.read(pd.concat(r.to_pandas("train") for r in made), PANEL)
    assert [(r.name, r.draw, type(r.draw)) for r in found] == [
        ("random", 0, int),
        ("random", 1, int),
        ("m/forward/abs", 0, int),
    ]
    for one, other in zip(found, made, strict=True):
        assert one.genes == PANEL and np.array_equal(one.scores_g, other.scores_g)


@pytest.mark.parametrize(
    "scores",
    [np.zeros(3), np.zeros((4, 1)), np.array([0, 1, np.nan, 2]), np.array([0, 1, np.inf, 2])],
)
def test_scores_that_do_not_fit_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(RankingError, match="'broken'"):
        GeneRanking("broken", PANEL, scores)


def test_what_is_kept() -> None:
    ranking = GeneRanking("x", PANEL, np.array([3.0, 2.0, 1.0, 0.0]))
    assert ranking.kept(0, "lowest_first").all() and ranking.kept(0, "highest_first").all()
    assert ranking.kept(0.5, "lowest_first").tolist() == [True, True, False, False]
    assert ranking.kept(0.5, "highest_first").tolist() == [False, False, True, True]
    assert ranking.kept(0.25, "lowest_first").tolist() == [True, True, True, False]
    assert ranking.kept(0.75, "highest_first").tolist() == [False, False, False, True]


@given(n=st.integers(1, 300), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_kept_counts_and_complements(n: int, share: float, seed: int) -> None:
    removed = int(share * (n - 1))
    genes = tuple(f"g{i}" for i in range(n))
    scores = np.random.default_rng(seed).integers(0, 5, n).astype(float)
    ranking = GeneRanking("x", genes, scores)
    best = ranking.kept(removed / n, "lowest_first")
    worst = ranking.kept(1 - removed / n, "highest_first")
    assert best.sum() == n - removed and worst.sum() == removed
    assert not (best & worst).any() and (best | worst).all()
    if removed:
        assert scores[best].min() >= scores[worst].max()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(
        {"gene": ["c", "a", "elsewhere", "c", "b"], "score": [2.0, 5.0, 9.0, 7.0, np.nan]}
    )
    file = tmp_path / f"mine{suffix}"
    if suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)
    ranking = table_ranking(file, PANEL)
    # A gene named twice counts once; genes without a score come last, by name.
    assert ranking.name == "table" and ranking.top(4) == ["a", "c", "b", "d"]


def test_table_errors(tmp_path: Path) -> None:
    with pytest.raises(RankingError, match="no such file"):
        table_ranking(tmp_path / "absent.csv", PANEL)
    file = tmp_path / "table.csv"
    file.write_text("gene,scores\na,1\n")
    with pytest.raises(RankingError, match=r"lacks the column 'score'.*'scores'"):
        table_ranking(file, PANEL)
    file.write_text("name,score\na,1\n")
    with pytest.raises(RankingError, match="lacks the column 'gene'"):
        table_ranking(file, PANEL)
    file.write_text("gene,score\nx,1\ny,2\n")
    with pytest.raises(RankingError, match="no gene of the table"):
        table_ranking(file, PANEL)
    file.write_text("gene,score\na,high\nb,2\n")
    with pytest.raises(RankingError, match="more than numbers"):
        table_ranking(file, PANEL)
    file.write_text("gene,score\na,inf\nb,2\n")
    with pytest.raises(RankingError, match="infinite"):
        table_ranking(file, PANEL)


@pytest.mark.parametrize("name", ["empty.csv", "text.parquet"])
def test_unreadable_table(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("" if name == "empty.csv" else "gene,score\na,1\n")
    with pytest.raises(RankingError, match=f"{name}: cannot be read as a table"):
        table_ranking(file, PANEL)


def test_the_order_of_a_gene_table_by_magnitude() -> None:
    frame = pd.DataFrame(
        {
            "gene": ["a", "d", "elsewhere", "b", "@disease"],
            "score": [-3.0, 2.0, -1.5, 1.0, 9.0],
            "rank": pd.array([1, 2, 3, 4, None], dtype="Int64"),
            "method": "deeplift",
        }
    )
    table = GeneTable(frame.reindex(columns=COLUMNS))
    ranking = GeneRanking.from_table(table, (*PANEL, "aa"))
    assert ranking.name == "deeplift/table" and ranking.genes == (*PANEL, "aa")
    # Those the table did not score come last, by name.
    assert ranking.top(5) == ["a", "d", "b", "aa", "c"]
    assert ranking.scores_g[2] > ranking.scores_g[0] > ranking.scores_g[3] == ranking.scores_g[4]


def test_choice_of_a_table_needs_a_file() -> None:
    with pytest.raises(RankingError, match="go together"):
        RankingChoice(kind="table")
    with pytest.raises(RankingError, match="go together"):
        RankingChoice(kind="hvg", file="mine.csv")
    assert RankingChoice(kind="table", file="mine.csv").file == "mine.csv"
    assert RankingChoice().kind == "attribution"


@pytest.mark.parametrize("n_null", [-1, 1])
def test_choice_of_too_few_exchanges_is_refused(n_null: int) -> None:
    with pytest.raises(RankingError, match=r"ranking.n_null: .*expected 0 for none, or at least 2"):
        RankingChoice(n_null=n_null)
    assert RankingChoice(n_null=0).by is None and RankingChoice().n_null == 100
