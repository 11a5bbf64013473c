"""The page of a sweep in Chromium: sorted, followed to a run, read in the dark and on paper."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.commands.main import main
from tests.browser.conftest import Visit
from tests.browser.reading import PAPER, clipped, faint_texts, sideways
from tests.reports.synthetic import CONFIG, METRICS, gene_table, write_run

pytestmark = pytest.mark.browser

RUNS = {"rate=0.1,method=deeplift": 0.9, "rate=0.01,method=deeplift": 0.95, "rate=1e-5": None}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs, the last of which was not tested, and a job that failed."""
    sweep = tmp_path_factory.mktemp("sweeps") / "rates"
    for seed, (name, quality) in enumerate(RUNS.items()):
        metrics = {k: v for k, v in METRICS.items() if not k.startswith("test/")}
        if quality is not None:
            metrics["test/balanced_accuracy"] = quality
        config = {**CONFIG, "finetune": {"rate": float(name.split(",")[0].partition("=")[2])}}
        changes = {"config.yaml": config, "metrics.json": metrics}
        changes["attributions/genes.parquet"] = gene_table(seed=seed)
        write_run(sweep / name, changes)
        (sweep / name / "report.html").write_text("<!DOCTYPE html><title>a run</title>")
    jobs = {"job": range(4), "overrides": [*RUNS, "rate=9"], "folder": [*RUNS, "rate=9"]}
    table = pd.DataFrame({**jobs, "status": ["done"] * 3 + ["failed"]})
    table.assign(seconds=1.5, error=[""] * 3 + ["<img src=x onerror=alert(1)>"]).to_csv(
        sweep / "jobs.csv", index=False
    )
    assert main(["report", str(sweep)]) == 0
    return sweep / "sweep.html"


def test_runs_are_sorted_by_any_column(visit: Visit, page_file: Path) -> None:
    page = visit(page_file)
    heads = page.locator("#run-table thead th")
    cells = page.locator("#run-table tbody tr td:nth-child(1)")
    assert heads.nth(1).inner_text() == "finetune.rate"
    wanted = {
        0: ["rate=0.01,method=deeplift", "rate=0.1,method=deeplift", "rate=1e-5"],
        # By size and not by letter, the largest first.
        1: ["rate=0.1,method=deeplift", "rate=0.01,method=deeplift", "rate=1e-5"],
        2: ["rate=0.01,method=deeplift", "rate=0.1,method=deeplift", "rate=1e-5"],
    }
    for at, order in wanted.items():
        head = heads.nth(at)
        for turn in (0, 1):
            head.get_by_role("button").focus()
            page.keyboard.press("Enter")
            descending = (at > 0) == (turn == 0)
            said = "descending" if descending else "ascending"
            assert head.get_attribute("aria-sort") == said
            assert page.locator("[aria-sort]").count() == 1
            if turn == 0:
                assert cells.all_inner_texts() == order
            elif at == 2:  # what was not measured stays last
                assert cells.all_inner_texts() == [order[1], order[0], order[2]]
            else:
                assert cells.all_inner_texts() == order[::-1]


def test_each_run_leads_to_its_report(visit: Visit, page_file: Path) -> None:
    page = visit(page_file)
    for name in RUNS:
        page.get_by_role("link", name=name, exact=True).click()
        assert page.title() == "a run"
        page.go_back()


def test_failures_are_text(visit: Visit, page_file: Path) -> None:
    page = visit(page_file)
    assert "<img src=x onerror=alert(1)>" in page.locator("#failures").inner_text()
    assert "1 of 4 jobs failed" in page.locator("#verdict").inner_text()
    assert page.locator("main figure img").count() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(visit: Visit, page_file: Path, scheme: str) -> None:
    page = visit(page_file, color_scheme=scheme)
    assert faint_texts(page) == []


def test_on_paper_and_on_a_telephone(visit: Visit, page_file: Path) -> None:
    page = visit(page_file, viewport=PAPER)
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert clipped(page) == [] and sideways(page) <= 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    narrow = visit(page_file, viewport={"width": 400, "height": 800})
    assert sideways(narrow) <= 0


def test_without_scripts_it_can_be_read(visit: Visit, page_file: Path) -> None:
    page = visit(page_file, java_script_enabled=False)
    assert page.locator("#run-table tbody tr").count() == 3
    assert page.locator("#run-table button").count() == 0
