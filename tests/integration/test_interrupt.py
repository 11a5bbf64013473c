"""Ctrl-C in a real process: one line, the checkpoint kept, and the same command goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pytest

from gradgene.commands.main import main
from tests.forked import Forked
from tests.integration.tiny import progress, words

EPOCHS = 40


def interrupted(line: list[str], folder: Path) -> tuple[int, str]:
    """Start a line, press Ctrl-C once it has left a checkpoint; exit code and stderr."""
    process = Forked("-m", "gradgene", *line)
    process.until((folder / "checkpoints" / "last.ckpt").is_file)
    return process.end(signal.SIGINT), process.error


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_the_same_command_resumes(cells_file, tmp_path):
    folder = tmp_path / "run"
    line = ["study", *words(cells_file, folder, f"finetune.max_epochs={EPOCHS}")]
    code, error = interrupted(line, folder)
    assert code == 130, error
    assert error == ("gradgene: interrupted; what was finished is kept, the same command resumes\n")
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not (folder / "progress.jsonl").exists()
    before = pd.read_csv(folder / "training.csv")
    assert 1 <= len(before) < EPOCHS, "too late for the test"

    assert main(["train", *line[1:]]) == 0
    history = pd.read_csv(folder / "training.csv")
    assert history["epoch"].tolist() == [*range(1, EPOCHS + 1)]
    # Nothing was trained twice but the epoch that was broken off.
    pd.testing.assert_frame_equal(history.head(len(before) - 1), before.head(len(before) - 1))
    assert [stage["stage"] for stage in progress(folder)] == ["train"]
