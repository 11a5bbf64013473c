"""Kill a command again and again, and then let it finish; run as a program.

`python killing.py TIMES WHOLE KILLED`, the command lines as JSON: WHOLE is run undisturbed, for its
results and the time it takes. KILLED, which does the same in another folder, is started TIMES times
and killed with SIGKILL at a random moment of that time, and at last left alone. Each run is a
process of its own, forked with everything imported: importing takes longer than all the work.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from gradgene.commands.main import main

SEED = 11


def started(line: list[str]) -> int:
    """A process that runs a line, quietly."""
    process = os.fork()
    if process == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        os._exit(main(line))
    return process


def ended(process: int) -> int:
    """Wait for a process; what it ended with."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_often(times: int, whole: list[str], killed: list[str]) -> dict[str, float]:
    """What happened: how many were killed, and how many of them with work done and kept.

    One in four is killed at any moment, the others while they attribute: that is shorter than
    reading settings and cells.
    """
    process, began = started(whole), time.monotonic()
    wait_for_plan(process, folder_of(whole))
    planned_s = time.monotonic() - began
    assert ended(process) == 0
    taken_s = time.monotonic() - began
    folder = folder_of(killed)
    kept = folder / "attributions" / ".progress"
    chosen, found = random.Random(SEED), {"killed": 0, "with_progress": 0, "taken_s": taken_s}
    while found["killed"] < times:
        process = started(killed)
        if found["killed"] % 4:
            wait_for_plan(process, folder)
            time.sleep(chosen.uniform(0.0, taken_s - planned_s))
        else:
            time.sleep(chosen.uniform(0.0, taken_s))
        os.kill(process, signal.SIGKILL)
        if ended(process) == -signal.SIGKILL:
            found["killed"] += 1
            found["with_progress"] += any(kept.rglob("*.safetensors"))
        else:  # it was done: from the beginning
            shutil.rmtree(folder)
    assert ended(started(killed)) == 0
    return found


def folder_of(line: list[str]) -> Path:
    """Where a line writes."""
    return Path(next(w.partition("=")[2] for w in line if w.startswith("paths.output_dir=")))


def wait_for_plan(process: int, folder: Path) -> None:
    """Until this very process has written the plan of its pairs, and so begins with them."""
    plan, since = folder / "attributions" / "plan.json", time.time()
    while not (plan.is_file() and plan.stat().st_mtime >= since):
        assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        time.sleep(0.005)


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["GRADGENE_CACHE"] = ""  # what is killed must not find what was done undisturbed
    print(json.dumps(kill_often(int(sys.argv[1]), *map(json.loads, sys.argv[2:]))))
