"""The gene table of the report: where names lead, what is drawn, what fits on paper."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pandas as pd
import pytest

from gradgene.reports import RunFiles, write_report
from gradgene.reports.sections import data_table, gene_table, gene_url
from tests.reports.synthetic import write_run

EVIL = "\"><img src=x onerror='alert(1)'> javascript:"


def rows(**columns: list[object]) -> RunFiles:
    frame = pd.DataFrame({"gene": ["A", "B", "C"], "rank": [1, 2, 3], **columns})
    return RunFiles(Path(), genes=frame)


@pytest.mark.parametrize(
    ("gene", "ensembl", "url"),
    [
        ("ISG15", "ENSG00000187608", "https://www.ensembl.org/id/ENSG00000187608"),
        ("ISG15", "ENSG00000187608.12", "https://www.ensembl.org/id/ENSG00000187608"),
        ("Isg15", "ENSMUSG00000035692", "https://www.ensembl.org/id/ENSMUSG00000035692"),
        ("ENSG00000187608", None, "https://www.ensembl.org/id/ENSG00000187608"),
        ("ISG15", None, "https://www.ncbi.nlm.nih.gov/gene/?term=ISG15"),
        ("HLA-A/B c", "", "https://www.ncbi.nlm.nih.gov/gene/?term=HLA-A%2FB%20c"),
        ("ISG15", "ENSG1", "https://www.ncbi.nlm.nih.gov/gene/?term=ISG15"),
    ],
)
def test_names_lead_to_a_page_about_the_gene(gene: str, ensembl: str | None, url: str) -> None:
    assert gene_url(gene, ensembl) == url


def test_a_hostile_name_stays_inside_its_address(tmp_path: Path) -> None:
    frame = pd.DataFrame({"gene": [EVIL, "B"], "ensembl_id": [EVIL, None], "score": [2.0, 1.0]})
    parts = {"attributions/genes.parquet": frame.assign(rank=[1, 2])}
    page = write_report(RunFiles.read(write_run(tmp_path, parts)), {}).read_text(encoding="utf-8")
    url = gene_url(EVIL)
    assert url.startswith("https://www.ncbi.nlm.nih.gov/gene/?term=%22%3E%3Cimg")
    assert f'href="{escape(url)}" rel="noopener noreferrer"' in page and "<img" not in page


def test_bars_begin_at_0_and_intervals_lie_around_them() -> None:
    table = gene_table(
        rows(score=[3.0, 1.0, -1.0], ci_low=[2.0, None, -1.0], ci_high=[3.0, None, -0.5])
    )
    assert table is not None and table.span == (-1.0, 3.0)
    assert table.bars() == [
        ((25.0, 75.0), (75.0, 25.0)),
        ((25.0, 25.0), None),
        ((0.0, 25.0), (0.0, 12.5)),
    ]
    assert table.island()["span"] == (-1.0, 3.0)


def test_nothing_is_drawn_of_nothing() -> None:
    table = gene_table(rows(score=[0.0, 0.0, 0.0]))
    assert table is not None and table.span is None and table.bars() == [None] * 3


def test_columns_that_do_not_fit_on_paper() -> None:
    table = gene_table(rows(score=[3.0, 2.0, 1.0], mean_abs=[3.0, 2.0, 1.0], n_pairs=[1, 2, 3]))
    assert table is not None and table.keys == ("rank", "gene", "score", "mean_abs", "n_pairs")
    assert table.off_paper() == [4]


def test_cells_and_donors_a_row_a_label_the_compared_ones_first() -> None:
    counts = [
        {"split": split, "label": label, "n_cells": n, "n_donors": 2}
        for split, n in (("train", 80), ("test", 20))
        for label in ("B cell", "control", "stimulated")
    ]
    config = {"study": {"input": "stimulated", "baseline": "control"}}
    table = data_table(
        RunFiles(Path(), config=config, data_report={"table": counts[:-3] + counts[-2:]})
    )
    assert table is not None
    assert table.headings == ("Label", "Train cells", "Train donors", "Test cells", "Test donors")
    assert table.rows == (
        ("stimulated", "80", "2", "20", "2"),
        ("control", "80", "2", "20", "2"),
        ("B cell", "80", "2", "–", "–"),
    )
    alone = [{**count, "n_donors": None} for count in counts]
    without = data_table(RunFiles(Path(), config=config, data_report={"table": alone}))
    assert without is not None and without.headings == ("Label", "Train cells", "Test cells")
    assert data_table(RunFiles(Path(), data_report={"table": []})) is None
