"""Interactions in the report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gradgene.evaluation.interactions import INTERACTION_COLUMNS
from gradgene.reports import RunFiles, write_figures, write_report
from gradgene.reports.sections import interaction_rows


def a_run(folder: Path, n: int = 30) -> RunFiles:
    """A run that has nothing but interactions; the strongest comes last in the file."""
    table = pd.DataFrame(dict.fromkeys(INTERACTION_COLUMNS, 0.25), index=range(n))
    table = table.assign(
        gene_a=[f"a{i}" for i in range(n)], gene_b="<b>", rank=range(n, 0, -1), n_moved=7
    )
    (folder / "evaluation").mkdir()
    table.to_parquet(folder / "evaluation" / "interactions.parquet")
    (folder / "metrics.json").write_text("{}")
    return RunFiles.read(folder)


def test_the_strongest_come_first_and_the_rest_stays_in_the_file(tmp_path: Path) -> None:
    table = interaction_rows(a_run(tmp_path))
    assert table is not None
    assert len(table.rows) == 25
    assert table.rows[0][:2] == ("a29", "<b>")
    assert table.headings[:3] == ("Gene", "and gene", "Interaction")
    assert table.numeric == (False, False, *[True] * (len(table.headings) - 2))


def test_without_them_there_is_no_section(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    run = RunFiles.read(tmp_path)
    assert interaction_rows(run) is None
    assert 'id="interactions"' not in write_report(run).read_text()


def test_the_report_shows_map_and_table(tmp_path: Path) -> None:
    run = a_run(tmp_path, n=3)
    figures = write_figures(run)
    assert [*figures] == ["interactions"]
    page = write_report(run, figures).read_text()
    assert 'id="interactions"' in page
    assert "Heat map of the interactions" in page
    assert "&lt;b&gt;" in page and "<td><b>" not in page
