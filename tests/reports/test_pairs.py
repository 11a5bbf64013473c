"""Single pairs of cells in the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.errors import OutputError
from gradgene.reports import RunFiles, write_report
from gradgene.reports.sections import PairStep, pair_views, worst_pairs_table
from tests.reports.synthetic import example_table, pair_table, write_run


def steps(examples: pd.DataFrame) -> list[PairStep]:
    run = RunFiles(Path(), examples=examples, pairs=pair_table())
    return list(pair_views(run)[0].steps)


def test_steps_lead_from_one_cell_to_the_other() -> None:
    """f goes from -4 to 4 in five equal steps; the axis is from -4 to 4."""
    found = steps(example_table())
    assert [s.kind for s in found] == ["end", "category", "gene", "gene", "gene", "rest", "end"]
    assert [s.label for s in found[1:6]] == [
        *("@cell_type", "GENE0", "GENE1", "GENE2", "120 other genes"),
    ]
    assert (found[0].left, found[0].width) == (0, 50) and found[0].score == "-4"
    assert (found[-1].left, found[-1].width) == (50, 50) and found[-1].score == "4"
    for i, step in enumerate(found[1:6]):
        assert [step.left, step.width] == pytest.approx([20 * i, 20])
        assert step.sign == "up" and step.score == "1.6"
    assert (found[2].baseline, found[2].input) == ("0", "3.25") and found[5].input == ""


def test_what_is_missing_is_a_step_of_its_own() -> None:
    examples = example_table()
    examples.loc[examples["kind"] == "rest", "score"] = -0.4
    *_, missing, end = steps(examples)
    assert (missing.kind, missing.label, missing.score) == ("missing", "Not explained", "2")
    assert missing.left + missing.width == 100 and end.kind == "end"
    categories = examples.assign(score=examples["score"].where(examples["kind"] != "category", 0))
    assert "category" not in {step.kind for step in steps(categories)}


def test_facts_of_a_pair() -> None:
    view, other = pair_views(RunFiles(Path(), examples=example_table()))
    assert view.name == "B cell · typical · pair 7" and other.name.endswith("strong · pair 9")
    facts = dict(view.facts)
    assert facts["Input cell"] == "cell7 (donor 1015)" and facts["Baseline cell"] == "control7"
    assert facts["Output"] == "-4 for the baseline, 4 for the input"
    assert "need not add up" in facts["Left unexplained"], "of no known method"
    assert pair_views(RunFiles(Path())) == []


def test_the_page_shows_the_first_pair_and_holds_all(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, n_genes=20))
    page = write_report(run, {}).read_text(encoding="utf-8")
    assert page.count("<option") == 2 and 'id="pair-select"' in page and 'href="#pair"' in page
    bare = RunFiles.read(write_run(tmp_path / "bare", {"attributions/examples.parquet": None}))
    without = write_report(bare, {}).read_text(encoding="utf-8")
    assert 'id="pair"' not in without and "pair-data" not in without.split("<script>")[0]


def test_the_worst_pairs_of_the_ledger() -> None:
    pairs = pair_table()
    table = worst_pairs_table(RunFiles(Path(), pairs=pairs))
    assert table is not None and len(table.rows) == 5
    worst = pairs.set_index("pair")["relative_delta"].idxmax()
    assert table.rows[0][0] == str(worst)
    nothing = pairs.assign(relative_delta=float("nan"))
    assert worst_pairs_table(RunFiles(Path(), pairs=nothing)) is None


def test_a_table_of_another_kind_is_refused() -> None:
    with pytest.raises(OutputError, match="examples table has no column 'standing'"):
        RunFiles(Path(), examples=example_table().drop(columns="standing"))
