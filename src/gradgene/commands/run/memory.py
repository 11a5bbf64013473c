"""Memory of a process, now and at its highest, and what is free."""

from __future__ import annotations

import math
import os
import resource
import sys
from pathlib import Path

import torch

__all__ = ["free_mb", "peak_mb", "resident_mb"]

MB = 1024 * 1024
#: Limit and use of the memory of a container, by the version of control groups.
CONTAINERS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


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


def free_mb(device: str, root: Path = Path("/")) -> float:
    """Memory that this process can still have on "cpu" or "cuda".

    What torch keeps of a GPU for later counts as free. Infinite where the system does not say.
    """
    if device == "cuda":
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return (torch.cuda.mem_get_info()[0] + kept) / MB
    free = [math.inf]
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) / 1024)
    for limit, used in CONTAINERS:
        files = [root / "sys/fs/cgroup" / name for name in (limit, used)]
        if all(file.is_file() for file in files):
            most, now = (file.read_text().strip() for file in files)
            free.append(math.inf if most == "max" else (int(most) - int(now)) / MB)
    return max(0.0, min(free))


def _proc_mb(name: str, process: int) -> float:
    status = Path(f"/proc/{process}/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines[name].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
