"""The gene table's making: its columns, ranks and nulls."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes import (
    GeneTable,
    benjamini_hochberg,
    build_gene_table,
    depth_correlation,
    explained_share,
    null_p,
)
from gradgene.genes.table import COLUMNS
from tests.genes.toys import FACTS, PHENOTYPES, expression_of, sums_of, table_of

#: The list of contracts.md.
CONTRACT = """gene, ensembl_id, rank, score, score_present, forward, backward, contrast, paper_mean,
embedding, presence, mean_abs, direction, log_fold_change, se, ci_low, ci_high, p_adjusted, p_null,
flags, n_pairs, n_cells, n_donors, zero_forward, zero_backward, zero_importance, outlier, method,
baseline, target, model, split, seed, config_hash"""

#: What the list gains: the centre and the p of the interval, and what else may explain a score.
ADDED = (
    *("mean_abs_present", "score_donors", "p", "between_baseline_variance"),
    *("depth_correlation", "explained_share"),
)


def names(text: str) -> list[str]:
    return re.findall(r"\w+", text)


class TestColumns:
    def test_are_those_of_the_contract(self) -> None:
        assert [c for c in COLUMNS if c not in ADDED] == names(CONTRACT)
        assert set(COLUMNS) == {*names(CONTRACT), *ADDED}
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


class TestBothSides:
    def donors(self, n_baseline: int | None, n_input: int = 3) -> pd.DataFrame:
        forward = np.array([[2.0, 0.0, 0, 0], [3.0, -4.0, 0, 0], [4.0, 0.0, 0, 0]])[:n_input]
        sums = sums_of(forward, np.ones_like(forward), [1] * n_input)
        expression = expression_of(["a", "b"], [n_input] * 2)
        return build_gene_table(
            sums, expression, PHENOTYPES, "forward", "signed", FACTS, n_donors_baseline=n_baseline
        ).frame.set_index("gene")

    @pytest.mark.parametrize(
        ("n_input", "n_baseline", "interval"),
        [(3, None, True), (3, 3, True), (3, 2, False), (3, 0, False), (2, 3, False)],
    )
    def test_three_donors_are_needed_on_each(
        self, n_input: int, n_baseline: int | None, interval: bool
    ) -> None:
        frame = self.donors(n_baseline, n_input)
        for column in ("se", "ci_low", "ci_high", "p", "p_adjusted"):
            assert bool(frame[column].notna()["a"]) is interval
        assert frame["score_donors"]["a"] == frame["score"]["a"]

    def test_the_interval_lies_around_the_mean_of_donors(self) -> None:
        """Donors with 1 and 3 pairs: the score is the mean over pairs, the interval is not."""
        forward = np.array([[2.0, 0, 0], [3.0, 0, 0], [12.0, 0, 0]])
        sums = sums_of(forward, np.ones_like(forward), [1, 1, 4])
        frame = build_gene_table(
            sums, expression_of(["a"], [6]), PHENOTYPES, "forward", "signed", FACTS
        ).frame.set_index("gene")
        row = frame.loc["a"]
        assert row["score"] == pytest.approx(17 / 6)
        assert row["score_donors"] == pytest.approx(8 / 3)
        assert (row["ci_low"] + row["ci_high"]) / 2 == pytest.approx(8 / 3)
        assert row["p"] == pytest.approx(stats.ttest_1samp([2.0, 3.0, 3.0], 0).pvalue)
        assert row["p_adjusted"] == row["p"]

    def test_without_donors_there_is_no_mean_of_donors(self) -> None:
        forward = np.ones((1, 3))
        sums = sums_of(forward, forward, [1])
        unknown = replace(sums, groups=sums.groups.assign(donor=None))
        frame = build_gene_table(
            unknown, expression_of(["a"], [1]), PHENOTYPES, "forward", "signed", FACTS
        ).frame
        assert frame[["score_donors", "se", "p"]].isna().all().all()
        assert (frame["score"] == 1.0).all()


class TestOfTheMainImportance:
    def table(self, importance: str = "forward", flags: pd.Series | None = None) -> GeneTable:
        rng = np.random.default_rng(0)
        forward = rng.normal(size=(4, 6))
        depth_g = np.array([1.0, -2.0, 0.5, 0.5])
        sums = replace(
            sums_of(forward, np.ones_like(forward), [3, 3, 4, 5]),
            depth_g=depth_g,
            depth_square_g=depth_g**2 + 1.0,
            within_ss=np.arange(6.0),
            within_dof=4,
            null=rng.normal(size=(9, 6)),
        )
        extra = {"forward/square": forward**2 + 3.0, "forward/depth": forward * 0.3}
        self.sums = replace(sums, sums=sums.sums | extra)
        return build_gene_table(
            self.sums,
            expression_of(list("abcd"), [15] * 4),
            PHENOTYPES,
            importance,
            "signed",
            FACTS,
            flags=flags,
        )

    def test_columns_are_those_of_the_statistics(self) -> None:
        frame = self.table().frame.set_index("gene").loc[[*"abcd"]]
        assert frame["between_baseline_variance"].tolist() == [0.0, 0.25, 0.5, 0.75]
        assert self.sums.null is not None
        p = null_p(self.sums.mean("forward"), self.sums.null)
        # Adjusted over the genes: the two phenotype slots are no hypotheses.
        assert frame["p_null"].tolist() == benjamini_hochberg(p[:4]).tolist()
        assert frame["depth_correlation"].tolist() == depth_correlation(self.sums)[:4].tolist()
        assert frame["explained_share"].tolist() == explained_share(self.sums)[:4].tolist()
        assert frame["explained_share"].notna().all()

    def test_phenotypes_have_no_p(self) -> None:
        assert self.table().frame["p_null"].iloc[4:].isna().all()

    def test_of_another_importance_they_are_unknown(self) -> None:
        frame = self.table("backward").frame
        columns = ["p_null", "between_baseline_variance", "depth_correlation", "explained_share"]
        assert frame[columns].isna().all().all()
        assert (frame[columns].dtypes == np.float64).all()

    def test_one_baseline_a_cell_says_nothing_of_their_spread(self) -> None:
        self.table()
        alone = replace(self.sums, within_ss=np.zeros(6), within_dof=0)
        frame = build_gene_table(
            alone, expression_of(list("abcd"), [15] * 4), PHENOTYPES, "forward", "signed", FACTS
        ).frame
        assert frame["between_baseline_variance"].isna().all()

    def test_flags_go_to_their_genes(self) -> None:
        flags = pd.Series({"c": "depth;batch", "a": None, "elsewhere": "batch"}, dtype=object)
        frame = self.table(flags=flags).frame.set_index("gene")
        assert frame.loc["c", "flags"] == "depth;batch"
        others = frame["flags"].drop("c")
        assert all(flag is None for flag in others) and len(others) == 5


class TestOneLabel:
    def test_has_a_table_of_its_own(self) -> None:
        """Two donors with cells of both labels; the table of one label is that of its groups."""
        forward = np.array([[2.0, 0, 0], [4.0, 0, 0], [5.0, 0, 0]])
        sums = sums_of(forward, np.ones_like(forward), [1, 2, 1])
        groups = pd.DataFrame({"donor": [*"aab"], "batch": None, "label": [*"TBT"]})
        part = replace(sums, groups=groups).of_label("T")
        table = build_gene_table(
            part, expression_of(["x"], [2]), PHENOTYPES, "forward", "signed", FACTS
        )
        assert table.frame["score"].tolist()[0] == 3.5
        assert table.frame["p_null"].isna().all()
