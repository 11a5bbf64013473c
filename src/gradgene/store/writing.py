"""Write so that a reader never sees half a file and a failed run loses nothing."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from gradgene.errors import OutputError

__all__ = [
    "append_json_line",
    "atomic_path",
    "read_json_lines",
    "require_writable",
    "write_json",
    "write_parquet",
]

_log = logging.getLogger(__name__)
#: Of several machines that write to one folder, which this is: a process is only known to its own.
HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


@contextmanager
def atomic_path(file: Path) -> Iterator[Path]:
    """A temporary name beside `file` that takes its place when the body succeeds.

    What processes that were killed while they wrote this file have left beside it goes then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{HOST}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    for left in file.parent.glob(f".{glob.escape(file.name)}.{HOST}.*.tmp"):
        if not _lives(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)


def _lives(process: str) -> bool:
    """Whether a process of this number may still be running here."""
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True  # somebody else's
    except (ProcessLookupError, ValueError):
        return False
    return True


def write_parquet(frame: pd.DataFrame, file: Path) -> None:
    """Write a table without its index; readers see the old file or the whole new one."""
    with atomic_path(file) as temporary:
        frame.to_parquet(temporary, index=False)


def write_json(data: Mapping[str, Any], file: Path) -> None:
    """Write a mapping as indented JSON, keys in their order, atomically."""
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(data, indent=1, default=str) + "\n")


def append_json_line(data: Mapping[str, Any], file: Path) -> None:
    """Append one line, alone in the file meanwhile; one cut off before by a crash is closed first.

    Without the lock a writer may see half of another's line and take it for one cut off.
    """
    line = json.dumps(data, default=str).encode() + b"\n"
    with file.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # given back as the file is closed
        if end := stream.seek(0, os.SEEK_END):
            stream.seek(end - 1)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        stream.write(line)


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines; those cut off by a crash are left out, with a warning."""
    lines = []
    for text in file.read_text().splitlines() if file.is_file() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if isinstance(line, dict):
            lines.append(line)
        elif text.strip():
            _log.warning("ignoring a damaged line of %s", file)
    return lines


def require_writable(folder: Path) -> None:
    """Create `folder` and prove that files can be written there.

    Raises
    ------
    OutputError
        If it cannot be created or written to, or the disk is full.
    """
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"\0" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}",
            where="paths.output_dir",
            found=error.strerror or str(error),
            fix="choose another folder with paths.output_dir=...",
        ) from error
