"""The page of several runs: its table, its sentences, and that it needs nothing but itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene.reports import JoinedRuns, Measure, RunFiles, write_joined
from gradgene.reports.joined import Cell, run_rows, sentences
from tests.reports.synthetic import CONFIG, write_run

NAN = float("nan")


@pytest.fixture
def joined(tmp_path: Path) -> JoinedRuns:
    """Two runs in a sweep's folder, of which the first has a report of its own."""
    runs = [RunFiles.read(write_run(tmp_path / "sweep" / name)) for name in ("a=1,b=x#y", "c")]
    (runs[0].path / "report.html").write_text("")
    return JoinedRuns(
        runs=tuple(runs),
        measures=(
            [Measure("Quality", 0.95, 0.9, 0.97), Measure("Known", 12.0)],
            [Measure("Known", 9.0)],
        ),
        settings=pd.DataFrame({"method": ["deeplift", None], "rate": [1e-3, 1e-2]}),
        command="gradgene report sweep",
        title="sweep",
        objective="Known",
    )


def test_a_row_a_run(joined: JoinedRuns, tmp_path: Path) -> None:
    columns, rows = run_rows(joined, tmp_path / "sweep")
    assert columns == [
        ("Run", False),
        ("method", False),
        ("rate", True),
        ("Quality", True),
        ("Known", True),
        ("Seconds", True),
    ]
    first, second = rows
    assert first[0] == Cell("a=1,b=x#y", "a=1,b=x#y", "a%3D1%2Cb%3Dx%23y/report.html")
    assert second[0].link is None  # it has no report to lead to
    assert [cell.text for cell in first[1:]] == [
        "deeplift",
        "0.001",
        "0.95 [0.9, 0.97]",
        "12",
        "73.7",  # of its stages together
    ]
    assert [cell.key for cell in first[2:5]] == [1e-3, 0.95, 12.0]
    assert second[1] == second[3] == Cell("–")


def test_seconds_are_those_of_the_jobs(joined: JoinedRuns, tmp_path: Path) -> None:
    folders = ["sweep/c", "sweep/a=1,b=x#y", "sweep/abc"]
    jobs = pd.DataFrame({"folder": folders, "seconds": [5.0, 7.0, 1.0]})
    jobs = jobs.assign(job=[0, 1, 2], status="done", overrides="")
    _, rows = run_rows(replace(joined, jobs=jobs), tmp_path / "sweep")
    assert [row[-1].text for row in rows] == ["7", "5"]


def test_what_is_said(joined: JoinedRuns) -> None:
    said = sentences(joined)
    assert said[0] == "2 runs, which differ in method (deeplift, –); rate (0.001, 0.01)."
    assert said[1:] == ["The highest Known is 12, of a=1,b=x#y."]
    assert sentences(replace(joined, direction="minimize"))[1] == "The lowest Known is 9, of c."
    assert len(sentences(replace(joined, objective="unheard of"))) == 1
    many = replace(joined, settings=pd.DataFrame({"rate": [0.1, 0.2]}), runs=joined.runs[:1])
    assert sentences(many)[0].startswith("1 run, ")


def test_the_page_needs_nothing_but_itself(joined: JoinedRuns, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    jobs = pd.DataFrame(
        {"job": [7], "overrides": [evil], "folder": ["d"], "status": ["failed"], "error": [evil]}
    )
    config: dict[str, Any] = {**CONFIG, "study": {"input": evil, "baseline": "control"}}
    hostile = tuple(replace(run, config=config) for run in joined.runs)
    page = write_joined(replace(joined, jobs=jobs, runs=hostile), tmp_path / "sweep").read_text()
    assert evil not in page and page.count("&lt;script&gt;alert(1)") == 3
    assert page.startswith("<!DOCTYPE html>") and page.count("<script>") == 1
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "gradgene report sweep" in page


def test_runs_of_several_questions(joined: JoinedRuns, tmp_path: Path) -> None:
    other = replace(joined.runs[1], config={**CONFIG, "study": {"input": "another"}})
    page = write_joined(replace(joined, runs=(joined.runs[0], other)), tmp_path).read_text()
    assert "Several questions, side by side" in page


def test_a_leak_is_said_first(joined: JoinedRuns, tmp_path: Path) -> None:
    assert "leak the label" not in write_joined(joined, tmp_path).read_text()
    assert joined.runs[0].curves is not None
    leaking = replace(joined.runs[0], curves=joined.runs[0].curves.assign(rank_source="per_pair"))
    page = write_joined(replace(joined, runs=(leaking, joined.runs[1])), tmp_path).read_text()
    assert page.index("Rankings leak the label") < page.index("2 runs")
