"""The gene table: its columns, ranks, nulls and the ways out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes import GeneSums, GeneTable, build_gene_table
from gradgene.genes.table import COLUMNS

FACTS = {
    "method": "deeplift",
    "baseline": "cell_state",
    "target": "disease: case against control",
    "model": "toy",
    "split": "test",
    "seed": 0,
    "config_hash": "abc",
}
PHENOTYPES = ("sex", "disease")
#: The list of contracts.md.
CONTRACT = """gene, ensembl_id, rank, score, score_present, forward, backward, contrast, paper_mean,
embedding, presence, mean_abs, direction, log_fold_change, se, ci_low, ci_high, p_adjusted, p_null,
flags, n_pairs, n_cells, n_donors, zero_forward, zero_backward, zero_importance, outlier, method,
baseline, target, model, split, seed, config_hash"""


def names(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def sums_of(
    forward_dg: np.ndarray, present_dg: np.ndarray, n_pairs_d: list[int], **more: np.ndarray
) -> GeneSums:
    """Sums of a method without presence or `paper_mean`; backward is -forward."""
    zeros = np.zeros_like(forward_dg)
    sums = {
        "forward": forward_dg,
        "forward/abs": np.abs(forward_dg),
        "forward/zero": zeros,
        "backward": -forward_dg,
        "backward/abs": np.abs(forward_dg),
        "backward/zero": zeros,
        "embedding": forward_dg / 2,
        "present": present_dg,
    }
    return GeneSums(sums | more, np.array(n_pairs_d))


def expression_of(genes: list[str], n_pairs: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "gene": genes,
            "ensembl_id": [f"ENSG{i}" for i in range(len(genes))],
            "n_pairs": n_pairs,
            "n_cells": n_pairs,
            "n_donors": [min(3, n) for n in n_pairs],
            "log_fold_change": np.linspace(-1, 1, len(genes)),
            "direction": ["up"] * len(genes),
        }
    )


def table_of(
    scores: list[float], genes: list[str] | None = None, sign: str = "signed", **more: Any
) -> GeneTable:
    """One pair in each of three donors, every gene in every pair with the same score."""
    genes = genes or [f"g{i}" for i in range(len(scores))]
    forward = np.tile([*scores, 0.5, 0.0], (3, 1))
    sums = sums_of(forward, np.ones_like(forward), [1, 1, 1], **more)
    expression = expression_of(genes, [3] * len(genes))
    return build_gene_table(sums, expression, PHENOTYPES, "forward", sign, FACTS)


class TestColumns:
    def test_are_those_of_the_contract(self) -> None:
        assert names(CONTRACT) == COLUMNS
        assert list(table_of([1.0, 2.0]).frame.columns) == COLUMNS

    def test_the_contract_still_says_so(self, shared: Path) -> None:
        text = (shared / "contracts.md").read_text()
        found = re.search(r"`genes\.parquet`:\s*`([^`]*)`", text)
        assert found is not None
        assert names(found.group(1)) == names(CONTRACT)

    def test_a_table_without_a_column_is_refused(self) -> None:
        frame = table_of([1.0]).to_pandas().drop(columns=["presence", "rank"])
        with pytest.raises(RankingError, match="lacks rank, presence"):
            GeneTable(frame)

    def test_facts_are_on_every_row(self) -> None:
        frame = table_of([1.0, 2.0]).frame
        for name, value in FACTS.items():
            assert (frame[name] == value).all()

    def test_a_quantity_the_method_lacks_is_null_and_not_zero(self) -> None:
        frame = table_of([1.0, 0.0]).frame
        assert frame[["presence", "paper_mean", "contrast", "p_null"]].isna().all().all()
        assert frame["flags"].isna().all()
        frame = table_of([1.0, 0.0], presence=np.ones((3, 4))).frame
        assert frame["presence"].tolist() == [1.0] * 4

    def test_an_importance_that_was_not_accumulated_is_refused(self) -> None:
        sums = sums_of(np.zeros((1, 3)), np.ones((1, 3)), [1])
        with pytest.raises(RankingError, match="'contrast' was not accumulated"):
            build_gene_table(
                sums, expression_of(["a"], [1]), PHENOTYPES, "contrast", "signed", FACTS
            )


class TestValues:
    def test_by_hand(self) -> None:
        """Donors with 1, 2 and 1 pairs; a is in one pair of each, b in one of the second's."""
        forward = np.array([[2.0, 0.0, 0, 0], [3.0, -4.0, 0, 0], [1.0, 0.0, 0, 0]])
        present = np.array([[1.0, 0.0, 1, 1], [1.0, 1.0, 2, 2], [1.0, 0.0, 1, 1]])
        zero = np.array([[0.0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 1, 1]])
        zero_a = zero + np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
        sums = sums_of(
            forward, present, [1, 2, 1], **{"forward/zero": zero_a, "backward/zero": zero}
        )
        frame = build_gene_table(
            sums, expression_of(["a", "b"], [3, 1]), PHENOTYPES, "forward", "signed", FACTS
        ).frame.set_index("gene")
        a, b = frame.loc["a"], frame.loc["b"]
        assert (a["score"], b["score"]) == (6 / 4, -4 / 4)
        assert (a["score_present"], b["score_present"]) == (2.0, -4.0)
        assert (a["forward"], a["backward"], a["embedding"]) == (1.5, -1.5, 0.75)
        assert b["mean_abs"] == 1.0
        assert (a["zero_forward"], a["zero_backward"]) == (pytest.approx(1 / 3), 0.0)
        assert a["zero_importance"] == a["zero_forward"]
        # Donor means of a: 2, 1.5, 1.
        low, high = stats.t.interval(0.95, 2, 1.5, stats.sem([2.0, 1.5, 1.0]))
        assert (a["ci_low"], a["ci_high"]) == (pytest.approx(low), pytest.approx(high))
        assert a["se"] == pytest.approx(stats.sem([2.0, 1.5, 1.0]))
        p = stats.ttest_1samp([[2.0, 0.0], [1.5, -2.0], [1.0, 0.0]], 0).pvalue
        assert a["p_adjusted"] == pytest.approx(min(2 * p[0], 1))
        assert b["p_adjusted"] == pytest.approx(p[1])
        assert (a["n_pairs"], b["n_pairs"]) == (3, 1)

    def test_phenotypes_have_no_rank(self) -> None:
        frame = table_of([1.0, -1.0]).frame
        tail = frame.iloc[-2:]
        assert tail["gene"].tolist() == ["@sex", "@disease"]
        nulls = ["rank", "outlier", "ensembl_id", "direction", "log_fold_change", "p_adjusted"]
        assert tail[[*nulls, "n_cells", "n_donors"]].isna().all().all()
        assert tail["score"].tolist() == [0.5, 0.0]
        assert tail["n_pairs"].tolist() == [3, 3]
        assert frame["rank"].tolist() == [1, 2, pd.NA, pd.NA]

    def test_genes_of_no_pair_are_left_out(self) -> None:
        forward = np.tile([1.0, 0.0, 2.0, 0.0, 0.0], (3, 1))
        sums = sums_of(forward, forward != 0, [1, 1, 1])
        frame = build_gene_table(
            sums, expression_of(["a", "b", "c"], [3, 0, 3]), PHENOTYPES, "forward", "signed", FACTS
        ).frame
        assert frame["gene"].tolist() == ["c", "a", "@sex", "@disease"]


class TestRanks:
    def test_descend_by_score(self) -> None:
        frame = table_of([1.0, -3.0, 2.0]).frame
        assert frame["gene"].tolist()[:3] == ["g2", "g0", "g1"]
        assert frame["rank"].tolist()[:3] == [1, 2, 3]

    def test_descend_by_magnitude_when_asked(self) -> None:
        frame = table_of([1.0, -3.0, 2.0], sign="absolute").frame
        assert frame["gene"].tolist()[:3] == ["g1", "g2", "g0"]
        assert frame["score"].tolist()[:3] == [-3.0, 2.0, 1.0]

    def test_ties_go_by_name_whatever_the_order_of_the_file(self) -> None:
        scores = {"b": 0.0, "a": 0.0, "d": -0.0, "c": 1.0, "e": 0.0}
        for order in ("badce", "edcba", "abcde"):
            table = table_of([scores[g] for g in order], list(order))
            assert table.top(5) == ["c", "a", "b", "d", "e"]

    def test_outliers_lie_beyond_the_first_and_last_percentile(self) -> None:
        scores = np.random.default_rng(0).permutation(np.arange(201.0))
        frame = table_of(scores.tolist()).genes
        # Percentiles of 0 … 200 are 2 and 198.
        assert sorted(frame.loc[frame["outlier"], "score"]) == [0, 1, 199, 200]
        assert not frame["outlier"].isna().any()


class TestWaysOut:
    def test_top(self) -> None:
        table = table_of([1.0, -3.0, 2.0])
        assert table.top(2) == ["g2", "g0"]
        assert table.top() == ["g2", "g0", "g1"]
        assert len(table) == 5
        assert len(table.genes) == 3

    def test_to_pandas_is_a_copy(self) -> None:
        table = table_of([1.0])
        table.to_pandas()["score"] = 9.0
        assert table.frame["score"].iloc[0] == 1.0

    def test_to_anndata(self, tmp_path: Path) -> None:
        adata = ad.AnnData(np.zeros((2, 4), dtype=np.float32))
        adata.var_names = ["g2", "unknown", "g0", "g1"]
        table_of([1.0, -3.0, 2.0]).to_anndata(adata)
        adata.write_h5ad(tmp_path / "a.h5ad")
        back = ad.read_h5ad(tmp_path / "a.h5ad")
        np.testing.assert_array_equal(back.varm["gradgene"]["score"], [2.0, np.nan, 1.0, -3.0])
        np.testing.assert_array_equal(back.varm["gradgene"]["rank"], [1.0, np.nan, 2.0, 3.0])
        assert back.uns["gradgene"]["method"] == "deeplift"
        assert back.uns["gradgene"]["target"] == FACTS["target"]

    def test_to_anndata_of_other_names_is_refused(self) -> None:
        adata = ad.AnnData(np.zeros((2, 2), dtype=np.float32))
        adata.var_names = ["ENSG0", "ENSG1"]
        with pytest.raises(RankingError) as caught:
            table_of([1.0, -3.0, 2.0]).to_anndata(adata)
        message = str(caught.value)
        assert "expected names such as g2, g0, g1; found ENSG0, ENSG1" in message
        assert "data.gene_key" in message
        assert not adata.varm and not adata.uns

    def test_parquet_keeps_it(self, tmp_path: Path) -> None:
        table = table_of([1.0, -3.0, 2.0])
        table.frame.to_parquet(tmp_path / "genes.parquet")
        back = GeneTable(pd.read_parquet(tmp_path / "genes.parquet"))
        assert back.top() == table.top()
        assert list(back.frame.columns) == COLUMNS

    def test_plot(self) -> None:
        (axes,) = table_of([1.0, -3.0, 2.0]).plot(2).axes
        assert [t.get_text() for t in axes.get_yticklabels()] == ["g2", "g0"]
