"""Kill a pretraining at some lines of its history, and then let it finish; run as a program.

`python killing_pretraining.py LINE FOLDER LINES …`, LINE as JSON. The command is started once for
each number, killed with SIGKILL when its history has that many lines, and at last left alone. Each
run of it is a process of its own, forked with everything imported, because importing takes longer
than all the work.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from tests.integration.killing import ended, started


def kill_at(line: list[str], folder: Path, lines: list[float]) -> dict[str, object]:
    """The step that the last run went on at, and whether a stage was finished before its time."""
    file = folder / "training.jsonl"
    for n in lines:
        process = started(line)
        while not file.is_file() or len(file.read_text().splitlines()) < n:
            assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
    early = (folder / "progress.jsonl").exists()
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert ended(started(line)) == 0
    return {"finished_before_its_time": early, "step": last["global_step"]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(
        json.dumps(kill_at(json.loads(sys.argv[1]), Path(sys.argv[2]), [*map(float, sys.argv[3:])]))
    )
