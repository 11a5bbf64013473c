"""The command that a run's report gives makes the run again, also out of a sweep or of stages."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from gradgene.commands.main import main
from gradgene.reports import RunFiles
from gradgene.reports.sections import command, given
from tests.integration.tiny import QUICK, progress, run_all_stages, words

STAGES = ["train", "attribute", "prune", "evaluate"]


def require_remade(run: Path, folder: Path) -> None:
    """The line of the report, given in a folder of its own, does every stage with these keys."""
    said = command(RunFiles.read(run))
    assert said is not None
    line = [w for w in shlex.split(said) if not w.startswith("paths.output_dir=")]
    assert line[:2] == ["gradgene", "study"] and "--multirun" not in line
    assert main([*line[1:], f"paths.output_dir={folder}"]) == 0
    keys = {done["stage"]: done["key"] for done in progress(run)}
    assert {done["stage"]: done["key"] for done in progress(folder)} == keys
    assert list(keys) == STAGES


@pytest.mark.usefixtures("no_figures")
def test_a_job_of_a_sweep(cells_file: Path, tmp_path: Path) -> None:
    leaf = tmp_path / "conf" / "sweep" / "mine.yaml"
    leaf.parent.mkdir(parents=True)
    leaf.write_text(
        "# @package _global_\ndefaults:\n  - override /attribution: grad_x_delta\n"
        "study:\n  match_on: []\nhydra:\n  sweep:\n    subdir: job=${hydra.job.num}\n"
        "  sweeper:\n    params:\n      ranking: hvg\n"
    )
    folder = tmp_path / "sweep"
    line = [w for w in words(cells_file, folder, *QUICK) if not w.startswith("study.match_on=")]
    cache = f"paths.cache={tmp_path / 'cache'}"
    line = ["study", "-m", "--config-dir", str(tmp_path / "conf"), "sweep=mine", *line, cache]
    assert main(line) == 0
    job = folder / "job=0"
    said = command(RunFiles.read(job)) or ""
    assert f'paths.output_dir="{job}"' in said and "attribution=grad_x_delta" in said
    assert "sweep=mine" in (given(RunFiles.read(job)) or "")
    require_remade(job, tmp_path / "again")
    fetched = [bool(done.get("from_cache")) for done in progress(tmp_path / "again")]
    assert fetched[:2] == [True, True]
    assert given(RunFiles.read(tmp_path / "again")) is None


@pytest.mark.usefixtures("no_figures")
def test_stages_one_by_one(cells_file: Path, tmp_path: Path) -> None:
    run_all_stages(cells_file, tmp_path / "run", *QUICK, f"paths.cache={tmp_path / 'cache'}")
    found = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert found["given"][1] == "evaluate"
    require_remade(tmp_path / "run", tmp_path / "again")
