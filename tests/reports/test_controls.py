"""What the report says of sanity checks, stability and agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene.reports import RunFiles, sections
from gradgene.reports.controls import agreement_names, control_cautions, control_figures
from gradgene.reports.html import write_report
from gradgene.reports.sections import Table
from gradgene.reports.verdict import cautions
from tests.reports.controls import rankings, sanity, stability

STEADY = {"stability/n_pairs": 30, "stability/spearman": 0.8, "stability/top_overlap": 0.7}


def run_of(metrics: dict[str, float] | None = None, **parts: Any) -> RunFiles:
    return RunFiles(path=Path(), metrics=metrics, **parts)


def column(table: Table | None, heading: str) -> list[str]:
    assert table is not None
    assert all(len(row) == len(table.headings) for row in table.rows)
    return [row[table.headings.index(heading)] for row in table.rows]


def test_a_failed_check_comes_first_and_is_an_error() -> None:
    run = run_of({"sanity/passed": 0.0, "sanity/randomised": 0.93}, sanity=sanity(0.9))
    found = cautions(run)[0]
    assert (found.level, found.title) == ("error", "Random weights rank genes the same")
    assert "0.93" in found.text and "beyond 0.5" in found.text
    assert "a similar or reversed ranking" in found.text
    assert "FAILED" in str(sections.sanity_sentence(run))
    fine = run_of({"sanity/passed": 1.0, "sanity/randomised": 0.1}, sanity=sanity())
    assert not [*control_cautions(fine)]
    assert "passed" in str(sections.sanity_sentence(fine))
    assert sections.sanity_sentence(run_of()) is None


def test_no_verdict_is_an_error_too() -> None:
    run = run_of({"sanity/randomised": 0.1}, sanity=sanity())
    found = cautions(run)[0]
    assert (found.level, found.title) == ("error", "The sanity check has no verdict")
    assert "NO VERDICT" in str(sections.sanity_sentence(run))


@pytest.mark.parametrize(
    ("metrics", "title"),
    [
        ({"sanity/same_gene_shuffled": 0.8}, "Genes keep their place"),
        ({"sanity/same_values_shuffled": 0.8}, "Values make the ranking"),
        ({"sanity/labels_permuted_p_share": 0.4}, "Labels that mean nothing"),
        ({"sanity/labels_relearnt": 0.9}, "Learning labels that mean nothing"),
        ({**STEADY, "stability/top_overlap": 0.3}, "Other pairs would give other genes"),
    ],
)
def test_warnings(metrics: dict[str, float], title: str) -> None:
    levels = [
        level for level, said, _ in control_cautions(run_of(metrics)) if said.startswith(title)
    ]
    assert levels == ["warning"]


def test_controls_in_numbers() -> None:
    table = sections.sanity_table(run_of(sanity=sanity()))
    names = column(table, "Control")
    assert names[0] == "The trained model itself"
    assert names[2] == "Random weights: up to head"
    assert names[5] == "Random weights throughout"
    assert names[-1].endswith("(not made: no donor has cells of both labels)")
    assert column(table, "Rank correlation")[0] == "1"
    assert column(table, "Rank correlation")[-1] == "–"
    assert column(table, "Draws")[2] == "2"
    assert "[" in column(table, "Rank correlation")[2]


def test_how_many_pairs_are_enough() -> None:
    rising = str(sections.stability_sentence(run_of(STEADY)))
    assert "30 pairs each" in rising and "70 %" in rising and "not levelled off" in rising
    level = str(sections.stability_sentence(run_of({**STEADY, "stability/n_pairs_enough": 10})))
    assert "10 pairs already reach" in level
    few = str(sections.stability_sentence(run_of({**STEADY, "stability/can_tell": 0.0})))
    assert few.endswith("Too few pairs to tell whether more would change it.")
    assert "levelled off" not in few
    told = str(sections.stability_sentence(run_of({**STEADY, "stability/can_tell": 1.0})))
    assert told == rising
    assert sections.stability_sentence(run_of({})) is None
    unordered = {k: v for k, v in STEADY.items() if k != "stability/spearman"}
    assert sections.stability_sentence(run_of(unordered)) is None
    run = run_of(stability=stability())
    assert column(sections.stability_table(run), "Pairs") == ["10", "20", "30"]
    donors = sections.donor_stability_table(run)
    assert column(donors, "Donor left out") == ["d0", "d1"]
    assert column(donors, "Correlation with all") == ["0.9", "0.8"]
    assert column(donors, "Best in common with the donor") == ["0.6", "0.5"]


def test_agreement_and_disagreement() -> None:
    agreed, voted = rankings()
    run = run_of(agreement=agreed, consensus=voted)
    names = agreement_names(run)
    table = sections.agreement_table(run, names)
    assert table is not None and table.headings[1:] == tuple(names)
    assert [row[i + 1] for i, row in enumerate(table.rows)] == ["1"] * 6
    best = sections.consensus_table(run, 5)
    assert column(best, "Rank") == ["1", "2", "3", "4", "5"]
    assert "method2/forward" in best.headings  # type: ignore[union-attr]
    assert sections.disputed_table(run) is not None
    assert sections.consensus_table(run_of()) is None


def test_many_rankings_are_cut_to_those_with_a_vote() -> None:
    agreed, voted = rankings(7)
    names = agreement_names(run_of(agreement=agreed, consensus=voted))
    assert names == [f"method{i}/forward" for i in range(7)]
    assert len(agreement_names(run_of(agreement=agreed))) == 0


def test_figures_for_what_there_is() -> None:
    agreed, voted = rankings()
    run = run_of(STEADY, sanity=sanity(), stability=stability(), agreement=agreed, consensus=voted)
    drawn = {name: draw() for name, draw in control_figures(run)}
    assert list(drawn) == [
        "sanity",
        "pair_stability",
        "donor_stability",
        "agreement",
        "disputed_genes",
    ]
    assert not [*control_figures(run_of())]
    alone = run_of(stability=stability().query("kind == 'donors'"))
    assert [name for name, _ in control_figures(alone)] == ["donor_stability"]


def test_the_page_has_a_section_each(tmp_path: Path) -> None:
    agreed, voted = rankings()
    metrics = {**STEADY, "sanity/passed": 0.0, "sanity/randomised": 0.9}
    run = RunFiles(
        tmp_path,
        metrics=metrics,
        sanity=sanity(0.9),
        stability=stability(),
        agreement=agreed,
        consensus=voted,
    )
    page = write_report(run, {}).read_text()
    for section in ("sanity", "stability", "agreement"):
        assert f'<section id="{section}">' in page and f'href="#{section}"' in page
    assert page.index('role="alert"') < page.index('<section id="sanity">')
    bare = write_report(RunFiles(tmp_path, metrics={}), {}).read_text()
    assert 'id="sanity"' not in bare and 'id="agreement"' not in bare
    assert isinstance(agreed, pd.DataFrame)
