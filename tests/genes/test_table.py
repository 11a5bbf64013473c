"""The gene table in Python: the ways through it and out of it."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from gradgene.errors import RankingError
from gradgene.genes import GeneTable
from gradgene.genes.table import COLUMNS
from tests.genes.toys import FACTS, table_of


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


def varied() -> GeneTable:
    """Five genes, ranked b d a c e; `n_pairs` and flags differ, one p is unknown."""
    made = table_of([1.0, 3.0, -1.0, 2.0, -2.0], [*"abcde"])
    frame = made.to_pandas().set_index("gene")
    frame["n_pairs"] = pd.Series({"a": 9, "b": 3, "c": 9, "d": 20, "e": 1, "@sex": 30}).astype(
        "Int64"
    )
    frame["p_adjusted"] = pd.Series({"a": 0.2, "b": 0.01, "d": np.nan, "c": 0.01, "e": 0.5})
    flags = {"a": "depth", "b": "mitochondrial;depth", "e": "ribosomal"}
    frame["flags"] = pd.Series(flags, index=frame.index, dtype=object)
    frame["flags"] = frame["flags"].where(frame["flags"].notna(), None)
    return GeneTable(frame.reset_index()[COLUMNS])


def order(table: GeneTable) -> str:
    """The genes as they stand, without phenotypes."""
    return "".join(g for g in table.frame["gene"] if not g.startswith("@"))


class TestSort:
    def test_by_a_column(self) -> None:
        """Ties by name whichever way, nulls after them, phenotypes last and ranks as they were."""
        found = varied().sort("p_adjusted", ascending=True)
        assert order(found) == "bcaed"
        assert found.frame["gene"].tolist()[5:] == ["@sex", "@disease"]
        assert found.frame["rank"].tolist()[:5] == [1, 4, 3, 5, 2]
        assert found.top(5) == [*"bdace"]
        assert order(varied().sort("n_pairs")) == "dacbe"

    def test_ranks_anew(self) -> None:
        found = varied().sort("p_adjusted", ascending=True, rerank=True)
        assert found.frame["rank"].tolist() == [1, 2, 3, 4, 5, pd.NA, pd.NA]
        assert found.top(5) == [*"bcaed"]

    def test_leaves_the_table_as_it_was(self) -> None:
        table = varied()
        before = table.to_pandas()
        table.sort("n_pairs", rerank=True)
        table.filter(n_pairs=5, rerank=True)
        pd.testing.assert_frame_equal(table.frame, before)

    def test_by_an_unknown_column_is_refused(self) -> None:
        with pytest.raises(RankingError, match=r"no column 'n_pair'; expected one of 'n_pairs'"):
            varied().sort("n_pair")


class TestFilter:
    def test_by_minimums(self) -> None:
        found = varied().filter(n_pairs=9, score=0.0)
        assert order(found) == "da"
        assert found.frame["gene"].tolist()[2:] == ["@sex", "@disease"]
        # A gene keeps the rank it had among all.
        assert found.frame["rank"].tolist()[:2] == [2, 3]
        assert varied().filter(n_pairs=9, rerank=True).frame["rank"].tolist()[:3] == [1, 2, 3]

    def test_by_a_condition(self) -> None:
        assert order(varied().filter(lambda genes: genes["p_adjusted"] < 0.05)) == "bc"
        assert order(varied().filter(lambda genes: genes["n_pairs"].to_numpy() == 9)) == "ac"
        assert order(varied().filter(lambda genes: genes["score"] > 0, n_pairs=4)) == "da"
        assert order(varied().filter()) == "bdace"

    def test_null_counts_as_no(self) -> None:
        """An Int64 or boolean column answers null with null."""
        frame = varied().to_pandas()
        frame.loc[0, "n_donors"] = pd.NA
        table = GeneTable(frame)
        assert order(table.filter(n_donors=1)) == "dace"
        assert order(table.filter(lambda genes: genes["n_donors"] >= 1)) == "dace"

    def test_by_what_is_no_condition_is_refused(self) -> None:
        with pytest.raises(RankingError, match=r"no column 'n_cell'"):
            varied().filter(n_cell=3)
        with pytest.raises(RankingError, match="'flags' holds no numbers"):
            varied().filter(flags=1)
        for wrong in (lambda genes: genes["score"], lambda genes: np.array([True])):
            with pytest.raises(RankingError, match="true or false"):
                varied().filter(wrong)

    def test_rows_need_no_index_of_their_own(self) -> None:
        frame = varied().to_pandas()
        frame.index = pd.Index([0] * len(frame))
        table = GeneTable(frame)
        assert order(table.filter(lambda genes: genes["score"] > 0, n_pairs=4)) == "da"
        assert order(table.without_flags()) == "dc" and order(table.sort("n_pairs")) == "dacbe"

    def test_of_everything_leaves_phenotypes(self) -> None:
        nothing = varied().filter(n_pairs=1000)
        assert nothing.frame["gene"].tolist() == ["@sex", "@disease"]
        assert nothing.top() == [] and order(nothing.sort("score")) == ""


class TestFlags:
    def test_set_apart(self) -> None:
        table = varied()
        assert order(table.without_flags()) == "dc"
        assert order(table.flagged()) == "bae"
        assert order(table.without_flags("depth")) == "dce"
        assert order(table.flagged("mitochondrial", "ribosomal")) == "be"
        assert "@sex" not in table.flagged().frame["gene"].tolist()
        assert "@sex" in table.without_flags().frame["gene"].tolist()
        assert table.without_flags(rerank=True).frame["rank"].tolist()[:2] == [1, 2]
        assert table.without_flags().frame["rank"].tolist()[:2] == [2, 4]

    def test_every_gene_is_on_one_side(self) -> None:
        table = varied()
        for words in ((), ("depth",), ("batch",)):
            sides = order(table.flagged(*words)), order(table.without_flags(*words))
            assert sorted("".join(sides)) == [*"abcde"]

    def test_a_word_is_not_a_part_of_another(self) -> None:
        frame = varied().to_pandas()
        frame["flags"] = frame["flags"].replace("ribosomal", "batch_of_mine")
        table = GeneTable(frame)
        assert order(table.flagged("batch")) == "" and order(table.flagged("batch_of_mine")) == "e"

    def test_a_word_that_is_no_flag_is_refused(self) -> None:
        for way in (varied().flagged, varied().without_flags):
            with pytest.raises(RankingError, match=r"no flag 'mito'; expected one of 'mitochondri"):
                way("depth", "mito")
