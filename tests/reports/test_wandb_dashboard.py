"""The dashboard is laid out without a network, and says what is missing where there is none."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gradgene.commands.report import wandb as report_wandb
from gradgene.commands.report.wandb import known_figures, send_runs
from gradgene.reports import RunFiles, wandb
from gradgene.reports.wandb_dashboard import lay_out, workspace
from tests.reports.synthetic import write_run
from tests.wandb_files import nobody

AREA, FAITHFUL = "pruning/area/lowest_first/deeplift/forward", "faithfulness/deeplift/insertion"


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path) -> Iterator[None]:
    with nobody(tmp_path):
        yield


@pytest.fixture(scope="module")
def made() -> Any:
    return workspace("me", "gradgene", "tiny", [AREA, FAITHFUL, "test/macro_f1"])


def test_runs_of_the_group_sorted_by_validation(made: Any) -> None:
    runs = made.runset_settings
    assert (made.entity, made.project, made.name) == ("me", "gradgene", "tiny")
    assert runs.filters == "Metric(\"Group\") == 'tiny'"
    (order,) = runs.order
    assert (order.item.name, order.ascending) == ("val/balanced_accuracy", False)
    assert {"run:jobType", "summary:val/balanced_accuracy"} <= {*runs.pinned_columns}


def test_every_section_shows_what_it_is_named_after(made: Any) -> None:
    panels = {section.name: section.panels for section in made.sections}
    assert [*panels] == ["Runs", "Training", "Pruning", "Genes", "Faithfulness"]
    training = [(panel.x, panel.y) for panel in panels["Training"]]
    assert ("trainer/global_step", ["train/loss", "val/loss"]) in training
    *curves, areas = panels["Pruning"]
    assert [(panel.x, panel.metric_regex) for panel in curves] == [
        ("pruning/removed", f"pruning/{curve}/.*")
        for curve in ("curves/lowest_first", "curves/highest_first", "retrained")
    ]
    assert areas.metrics == [AREA]
    assert next(panel.table_name for panel in panels["Genes"]) == "genes"
    assert panels["Faithfulness"][0].metrics == [FAITHFUL]
    assert panels["Faithfulness"][1].table_name == "faithfulness"


def test_offline_nothing_is_laid_out() -> None:
    assert lay_out("gradgene", "tiny", []) is None


def test_a_server_that_refuses_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)

    def gone() -> None:
        raise ConnectionError("server gone")

    monkeypatch.setattr("wandb.Api", gone)
    assert lay_out("gradgene", "tiny", []) is None
    assert "no dashboard: server gone" in caplog.text


def test_several_runs_are_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [RunFiles.read(write_run(tmp_path / name, n_genes=20)) for name in ("a", "b")]
    sent: list[tuple[str, str | None]] = []
    laid: list[tuple[str, str]] = []

    def send(run: RunFiles, figures: Any, group: str | None) -> str:
        sent.append((run.path.name, group))
        return "online"

    def save(project: str, group: str, figures: list[str], entity: str | None) -> str:
        assert "pruning/area/lowest_first/deeplift/forward" in figures
        laid.append((project, group))
        return "https://example.org/w"

    monkeypatch.setattr(wandb, "send", send)
    monkeypatch.setattr(report_wandb, "lay_out", save)
    said = io.StringIO()
    send_runs(runs, Console(file=said, soft_wrap=True))
    assert sent == [("a", "kang_ifnb"), ("b", "kang_ifnb")]
    assert laid == [("gradgene", "kang_ifnb")]
    assert said.getvalue().splitlines()[1] == "dashboard: https://example.org/w"


def test_offline_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFiles.read(write_run(tmp_path / "a", n_genes=20))
    monkeypatch.setattr(wandb, "send", lambda *given: "offline")
    said = io.StringIO()
    send_runs([run], Console(file=said, soft_wrap=True))
    first, second = said.getvalue().splitlines()
    assert "(offline), group kang_ifnb" in first
    assert f"wandb sync {run.path}/wandb/offline-run-*" in second
    assert "test/macro_f1" in known_figures([run])


def test_without_the_package_runs_are_sent_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    sent: list[object] = []

    def send(*given: object) -> str:
        sent.append(given)
        return "offline"

    monkeypatch.setattr(wandb, "send", send)
    said = io.StringIO()
    send_runs([RunFiles.read(write_run(tmp_path))], Console(file=said, soft_wrap=True))
    assert len(sent) == 1
    assert "pip install 'gradgene[dashboards]'" in said.getvalue()
