"""Agreement of two gene tables, by hand and against scipy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes import GeneTable
from tests.genes.toys import table_of


def directed(table: GeneTable, directions: dict[str, str | None]) -> GeneTable:
    frame = table.to_pandas()
    frame["direction"] = [directions.get(g) for g in frame["gene"]]
    return GeneTable(frame)


def test_by_hand() -> None:
    """Shared are a b c d; the best two are {d, c} and {d, a}."""
    first = directed(table_of([1.0, 2.0, 3.0, 4.0, 9.0], [*"abcdx"]), {"d": "up", "c": "up"})
    second = directed(table_of([3.0, 1.0, 2.0, -5.0], [*"abcd"], "absolute"), {"d": "down"})
    found = first.compare(second, k=2)
    assert (found.n_genes, found.k, found.overlap_at_k) == (4, 2, 0.5)
    assert found.direction_agreement == 0.0  # d is up in one and down in the other
    assert found.sign_agreement == 0.0  # 4 against -5
    assert found.spearman == pytest.approx(
        stats.spearmanr([1, 2, 3, 4], [3.0, 1.0, 2.0, -5.0]).statistic
    )
    everything = first.compare(second)
    assert (everything.k, everything.overlap_at_k) == (4, 1.0)
    assert everything.sign_agreement == 0.75
    assert everything.direction_agreement == 0.0  # only d has one in both


@given(st.integers(0, 2**31 - 1), st.integers(2, 30), st.integers(1, 20))
def test_of_random_tables_equals_a_loop(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(n)]
    a, b = (rng.permutation(np.linspace(-1, 1, n)) for _ in range(2))
    found = table_of(a.tolist(), names).compare(table_of(b.tolist(), names), k)
    assert found.spearman == pytest.approx(stats.spearmanr(a, b).statistic)
    k = min(k, n)
    best = [{names[i] for i in np.argsort(-x)[:k]} for x in (a, b)]
    assert found.overlap_at_k == pytest.approx(len(best[0] & best[1]) / k)
    assert np.isnan(found.sign_agreement) == (not best[0] & best[1])


def test_with_itself_is_perfect_and_either_way_the_same() -> None:
    one, other = table_of([1.0, -2.0, 3.0, 0.0]), table_of([2.0, 1.0, -4.0, 0.5])
    same = one.compare(one, k=3)
    assert dataclasses.astuple(same) == (4, 3, pytest.approx(1.0), 1.0, 1.0, 1.0)
    assert one.compare(other, 2) == other.compare(one, 2)


def test_phenotypes_are_no_genes() -> None:
    assert table_of([1.0, 2.0]).compare(table_of([2.0, 1.0])).n_genes == 2


def test_a_table_of_one_score_has_no_order_to_compare() -> None:
    found = table_of([0.0, 0.0, 0.0]).compare(table_of([1.0, 2.0, 3.0]), 1)
    assert np.isnan(found.spearman)
    # The tie of the first is broken by name: g0, where the second has g2.
    assert found.overlap_at_k == 0.0 and np.isnan(found.direction_agreement)


def test_filtered_tables_compare_what_is_left() -> None:
    one = table_of([5.0, 4.0, 3.0, 2.0])
    found = one.filter(lambda genes: genes["score"] < 4.5).compare(one, k=2)
    assert (found.n_genes, found.overlap_at_k) == (3, 1.0)


def test_to_pandas() -> None:
    frame = table_of([1.0, 2.0]).compare(table_of([2.0, 1.0])).to_pandas()
    assert frame.columns.tolist() == [
        *("n_genes", "k", "spearman", "overlap_at_k", "direction_agreement", "sign_agreement")
    ]
    assert frame["spearman"].tolist() == [pytest.approx(-1.0)]
    assert isinstance(frame, pd.DataFrame) and len(frame) == 1


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(RankingError, match=r"no gene in common; expected genes such as b, a"):
        table_of([1.0, 2.0], ["a", "b"]).compare(table_of([1.0], ["ENSG1"]))
    with pytest.raises(RankingError, match="k of at least 1"):
        table_of([1.0]).compare(table_of([1.0]), k=0)
