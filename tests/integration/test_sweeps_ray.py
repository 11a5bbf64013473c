"""The tiny study swept by Ray; alone in its file, because Ray has an environment of its own."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.tiny import words, write_cells


@pytest.mark.ray
@pytest.mark.slow
def test_jobs_on_ray_train_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    cells = write_cells(tmp_path / "cells.h5ad")
    folder = tmp_path / "sweep"
    line = words(cells, Path("sweep"), "finetune.max_epochs=1", "data.holdout_donors=0.3,[nobody]")
    # Neither figures about its use go to Ray's makers nor a key into the home folder.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    more = ["hydra/launcher=ray", "sweep.objective=val/loss"]
    done = subprocess.run(
        [sys.executable, "-m", "gradgene", "train", "-m", *line, *more],
        cwd=tmp_path,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "1 of 2 jobs done, 1 failed" in done.stdout
    with (folder / "jobs.csv").open(newline="") as stream:
        first, second = csv.DictReader(stream)
    assert first["status"] == "done" and float(first["objective"]) > 0
    assert (folder / first["folder"] / "checkpoints/best.ckpt").is_file()
    assert second["status"] == "failed" and "nobody" in second["error"]
