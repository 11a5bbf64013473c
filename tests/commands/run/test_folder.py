"""The bookkeeping that every run shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from omegaconf import OmegaConf

from gradgene.commands.run import folder as run_folder
from gradgene.commands.run.folder import RunFolder


class Keyless(RunFolder):
    """A run that does not say what decides its result."""

    METRICS: ClassVar = {"count": ("count/",)}


class Counting(Keyless):
    """A run of one stage."""

    checkpoint = Path("none")

    def dataset(self) -> dict[str, Any]:
        """Nothing is read."""
        return {}

    def key(self, stage: str) -> str:
        """The same settings always."""
        return stage


CFG = OmegaConf.create({"trainer": {"devices": 1}})


def test_a_run_says_what_decides_its_result(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"abstract methods? .*key"):
        Keyless(CFG, tmp_path)  # type: ignore[abstract]


def test_a_stage_is_noted_with_the_memory_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "peak_mb", lambda: 123.4)
    work = Counting(CFG, tmp_path)
    work.stage("count", lambda run: None)
    (line,) = work.progress()
    assert (line["stage"], line["peak_memory_mb"], line["key"]) == ("count", 123, "count")
    assert work.is_done("count")


def test_metrics_that_stood_on_a_stage_go_when_it_is_done_again(tmp_path: Path) -> None:
    class TwoStages(Counting):
        METRICS: ClassVar = {"count": ("count/",), "judge": ("judge/",)}

    work = TwoStages(CFG, tmp_path)
    work.stage("count", lambda run: run.add_metrics({"count/n": 1.0}))
    work.stage("judge", lambda run: run.add_metrics({"judge/passed": 0.0, "other": 2.0}))
    (tmp_path / ".count.unfinished").touch()
    work.stage("count", lambda run: run.add_metrics({"count/n": 3.0}))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == {"count/n": 3.0, "other": 2.0}
    assert not work.is_done("judge")
