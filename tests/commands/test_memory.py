"""Memory is read of one process alone, now and at its highest."""

from __future__ import annotations

import numpy as np
import pytest

from gradgene.commands.benchmark_figures import in_fresh_process
from gradgene.commands.memory import peak_mb, resident_mb


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
