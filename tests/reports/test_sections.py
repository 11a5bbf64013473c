"""Tables of the report: the right rows in the right order, each number once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.reports import RunFiles, sections
from gradgene.reports.sections import Table
from gradgene.reports.sections.tables import frame_table
from tests.reports.synthetic import gene_table, pair_table, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    """A run with every part, of 60 genes."""
    return RunFiles.read(write_run(tmp_path_factory.mktemp("run"), n_genes=60))


def shown(table: Table | None) -> Table:
    assert table is not None
    assert all(len(row) == len(table.headings) for row in table.rows)
    return table


def column(table: Table | None, heading: str) -> list[str]:
    table = shown(table)
    return [row[table.headings.index(heading)] for row in table.rows]


def genes_only(genes: pd.DataFrame, **parts: object) -> RunFiles:
    return RunFiles(path=Path(), genes=genes, **parts)  # type: ignore[arg-type]


def test_columns_without_a_value_are_left_out() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [None, None], "c": ["", ""], "d": [0.5, None]})
    table = shown(frame_table(frame, {"d": "D", "b": "B", "a": "A", "c": "C", "e": "E"}))
    assert table.headings == ("D", "A") and table.numeric == (True, True)
    assert table.rows == (("0.5", "1"), ("–", "2")), "counts stay whole beside fractions"
    assert frame_table(frame[:0], {"a": "A"}) is None and frame_table(None, {"a": "A"}) is None


def test_strata(run: RunFiles) -> None:
    table = shown(sections.strata_table(run))
    assert column(table, "Stratum") == ["B cell", "NK cell"]
    assert column(table, "Pairs") == ["120", "40"]
    assert column(table, "Baseline cells there") == ["301", "77"]
    assert column(table, "Donors, baseline") == ["4", "3"]
    assert column(table, "Input cells skipped") == ["0", "3"]
    assert column(table, "Why skipped") == ["–", "no 'control' cell in 'NK cell'"]
    none = RunFiles(path=Path(), pairs=pair_table())
    assert sections.strata_table(none) is None


def test_costs_estimated_beside_measured(run: RunFiles) -> None:
    table = sections.cost_table(run)
    assert column(table, "Method") == ["deeplift", "grad_x_delta"]
    assert column(table, "Seconds, estimated") == ["4.12", "1.25"]
    assert column(table, "Seconds, measured") == ["3.9", "–"]
    assert column(table, "Peak MB, estimated") == ["1,180", "1,190"]


def test_skipped_pairs_with_their_reasons() -> None:
    frame = pd.DataFrame(
        {
            "method": "deeplift",
            "split": "test",
            "pair": [3, 9],
            "input": ["a", "b"],
            "baseline": ["c", "d"],
            "reason": ["nan in layer 1", "inf in layer 0"],
        }
    )
    table = sections.skipped_table(RunFiles(path=Path(), skipped_pairs=frame))
    assert column(table, "Pair") == ["3", "9"]
    assert column(table, "Why skipped") == ["nan in layer 1", "inf in layer 0"]
    assert sections.skipped_table(RunFiles(path=Path(), skipped_pairs=frame[:0])) is None


def test_facts_name_the_matching_and_the_donors(run: RunFiles) -> None:
    facts = dict(sections.data_facts(run))
    assert facts["Donors of the pairs"] == "4 input, 4 baseline" and "Matching" not in facts
    pairs = {"matching": "nearest", "donors": "same", "permute_labels": 0}
    facts = dict(sections.data_facts(RunFiles(path=Path(), config={"pairs": pairs})))
    assert facts["Matching"] == "nearest control, of the same donor, labels permuted"


def test_flagged_genes_are_set_apart_with_their_ranks(run: RunFiles) -> None:
    assert column(sections.flagged_table(run), "Rank") == ["2", "5"]
    assert column(sections.flagged_table(run), "Flags") == ["ribosomal", "cell cycle, depth"]
    assert column(sections.flagged_table(run, 4), "Rank") == ["2"]
    best = sections.unflagged_table(run, 5)
    assert column(best, "Rank") == ["1", "3", "4", "6", "7"]
    assert "Flags" not in shown(best).headings
    genes = run.ranked_genes
    assert genes is not None
    assert column(best, "Gene") == genes["gene"].iloc[[0, 2, 3, 5, 6]].tolist()
    assert all(text.startswith("[") for text in column(best, "95 % interval over donors"))


def test_without_flags_nothing_is_set_apart() -> None:
    run = genes_only(gene_table(60))
    tables = (sections.flagged_table, sections.unflagged_table, sections.flag_table)
    assert [table(run) for table in tables] == [None, None, None]
    late = gene_table(60, flags=True)
    late["flags"] = late["flags"].where(late["rank"] == 40, None)
    assert sections.flagged_table(genes_only(late)) is None
    assert column(sections.unflagged_table(genes_only(late), 2), "Rank") == ["1", "2"]


def test_flags_are_counted_among_the_best_and_all(run: RunFiles) -> None:
    table = sections.flag_table(run)
    words = ["mitochondrial", "ribosomal", "cell cycle", "depth", "any flag"]
    assert column(table, "Flag") == words
    one, none = "1 (3.33 %)", "0 (0 %)"
    assert column(table, "Of the 30 best") == [none, one, one, one, "2 (6.67 %)"]
    assert column(table, "Of all 60") == ["1 (1.67 %)"] * 4 + ["3 (5 %)"]
    assert "Of the 100 best" not in shown(table).headings


def test_all_genes_show_their_flags_and_what_columns_mean(run: RunFiles) -> None:
    table = sections.gene_table(run)
    assert table is not None
    at = [heading for heading, _, _ in table.columns].index("Flags")
    assert [row[at] for row in table.rows[:5]] == [
        *(None, "ribosomal", None, None),
        "cell cycle, depth",
    ]
    meanings = dict(table.meanings())
    assert {"p", "Null p", "Depth correlation", "Explained by depth and batch"} <= set(meanings)
    assert "Variance over baselines" not in meanings, "one baseline a cell has no such variance"
    assert all(meanings.values())


def test_best_genes_of_each_label(run: RunFiles) -> None:
    table = sections.label_table(run, 2)
    assert column(table, "Label") == ["B cell", "NK cell"]
    assert column(table, "Pairs") == ["17", "6"]
    assert run.genes_by_label is not None and run.genes is not None
    by_label = run.genes_by_label.groupby("label")
    named = {str(label): rows.set_index("rank")["gene"] for label, rows in by_label}
    flagged = set(run.genes["gene"][run.genes["flags"].notna()])
    texts = [
        ", ".join(f"{gene}*" if gene in flagged else gene for gene in named[label].loc[[1, 2]])
        for label in ("B cell", "NK cell")
    ]
    assert column(table, "The 2 best genes") == texts
    every = "".join(column(sections.label_table(run, 40), "The 40 best genes"))
    assert every.count("*") == sum(g in flagged for rows in named.values() for g in rows.dropna())
    bare = run.genes_by_label.drop(columns=["n_pairs", "flags"])
    genes = gene_table(40)
    table = sections.label_table(genes_only(genes, genes_by_label=bare), 2)
    assert column(table, "Pairs") == ["–", "–"]
    assert "*" not in "".join(column(table, "The 2 best genes"))


def test_zero_shares_beside_the_published_ones(run: RunFiles) -> None:
    table = shown(sections.zero_table(run))
    assert table.rows[0] == ("deeplift", "3.1 %", "3.2 %", "3.1 %")
    assert table.rows[1] == ("grad_x_delta", "31 %", "47 %", "2 %")
    assert table.rows[2][0].startswith("published") and table.rows[2][1:] == ("59 %", "38 %", "3 %")
    metrics = {"attribution/a/zero_forward": float("nan"), "attribution/a/complete": 1.0}
    assert sections.zero_table(RunFiles(path=Path(), metrics=metrics)) is None


def test_effects_by_label_best_median_first(run: RunFiles) -> None:
    table = shown(sections.effect_table(run))
    assert table.headings == ("Ranking", "Median", "B cell", "NK cell")
    assert table.rows[0] == ("log_fold_change", "0.8", "0.9", "0.7")
    assert table.rows[-1] == ("hvg", "-0.3", "-0.3", "–")
    assert run.effects is not None
    nothing = RunFiles(path=Path(), effects=run.effects.assign(spearman=None))
    assert sections.effect_table(nothing) is None


def test_gene_sets_by_p(run: RunFiles) -> None:
    table = sections.enrichment_table(run)
    names = ["HALLMARK_INTERFERON_ALPHA_RESPONSE", "MARKERS_T_CELLS", "OTHER"]
    assert column(table, "Gene set") == names
    assert column(table, "Genes") == ["ISG15, MX1", "CD3D, IL7R", "ACTB"]
    assert column(table, "Among the best") == ["15", "4", "1"]
    assert run.enrichment is not None
    empty = run.enrichment.assign(n_overlap=[0, 3, 0])
    table = sections.enrichment_table(RunFiles(path=Path(), enrichment=empty))
    assert column(table, "Among the best") == ["3"]
    assert sections.enrichment_table(RunFiles(path=Path(), enrichment=empty[:1])) is None


def test_other_metrics_repeat_nothing(run: RunFiles) -> None:
    assert column(sections.other_metrics(run), "Metric") == ["oddity/of_someone"]
    more = {"attribution/deeplift/relative_delta_max": 1.0, "effects_of": 2.0}
    assert run.metrics is not None
    kept = sections.other_metrics(RunFiles(path=Path(), metrics={**run.metrics, **more}))
    assert column(kept, "Metric") == [*more, "oddity/of_someone"]


def test_stages_from_the_cache_are_told() -> None:
    stages = pd.DataFrame({"stage": ["train", "prune"], "seconds": [0.02, 14.8]})
    table = shown(sections.stage_table(RunFiles(path=Path(), stages=stages)))
    assert table.headings == ("Stage", "Seconds")
    found = RunFiles(path=Path(), stages=stages.assign(from_cache=pd.Series([True, None])))
    assert column(sections.stage_table(found), "Done") == ["from the cache", "here"]


def test_the_line_that_makes_it_again_beside_the_one_given() -> None:
    one = RunFiles(path=Path(), provenance={"command": ["gradgene", "study", "a=b c"]})
    assert sections.command(one) == "gradgene study 'a=b c'" and sections.given(one) is None
    swept = RunFiles(
        path=Path(), provenance={"command": "x", "given": ["x", "-m"], "device": "cpu"}
    )
    assert (sections.command(swept), sections.given(swept)) == ("x", "x -m")
    assert sections.provenance_facts(swept) == [("device", "cpu")]
