"""Memory of a process, now and at its highest."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["peak_mb", "resident_mb"]


def resident_mb(process: int | None = None) -> float:
    """Resident memory of this process, or the one of that id, now.

    Where the system has no /proc it is the peak of this process.
    """
    return _proc_mb("VmRSS", process or os.getpid())


def peak_mb() -> float:
    """Highest resident memory of this process so far.

    Linux hands `ru_maxrss` down from the process that started this one, so the kernel's own
    high-water mark is read there.
    """
    return _proc_mb("VmHWM", os.getpid())


def _proc_mb(name: str, process: int) -> float:
    status = Path(f"/proc/{process}/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[name].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
