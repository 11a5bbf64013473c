"""Memory is read of one process alone, now and at its highest; and what is free for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gradgene.commands.benchmark.figures import in_fresh_process
from gradgene.commands.run.memory import free_mb, peak_mb, resident_mb


def test_memory_is_that_of_a_fresh_process_alone() -> None:
    ballast = np.ones(400 * 2**17)  # 400 MB here must not show there
    assert in_fresh_process(peak_mb) < resident_mb() - 0.5 * ballast.nbytes / 2**20


def test_resident_memory_follows_what_is_held() -> None:
    before = resident_mb()
    block = np.ones(300 * 2**17)
    held = resident_mb()
    del block
    assert held - before == pytest.approx(300, abs=30)
    assert resident_mb() < held - 200 and peak_mb() > held - 5


def test_free_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert free_mb("cpu", tmp_path) == math.inf, "a system that does not say"
    write("proc/meminfo", "MemTotal: 4096000 kB\nMemFree: 1 kB\nMemAvailable: 2048000 kB\n")
    assert free_mb("cpu", tmp_path) == 2000
    write("sys/fs/cgroup/memory.max", "max\n")
    write("sys/fs/cgroup/memory.current", f"{100 * 2**20}\n")
    assert free_mb("cpu", tmp_path) == 2000
    write("sys/fs/cgroup/memory.max", f"{600 * 2**20}\n")
    assert free_mb("cpu", tmp_path) == 500
    write("sys/fs/cgroup/memory.current", f"{700 * 2**20}\n")
    assert free_mb("cpu", tmp_path) == 0
    assert 1 < free_mb("cpu") < 2**30
