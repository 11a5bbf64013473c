"""Offline runs of Weights & Biases read back: what a later `wandb sync` would upload."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

__all__ = ["OfflineRun", "manifest", "nobody", "offline_runs"]


@dataclass(frozen=True)
class OfflineRun:
    """One `run-ID.wandb` and the files beside it."""

    file: Path

    @cached_property
    def records(self) -> list[Any]:
        """All records, once W&B's own process has written the one of the run's exit.

        `finish` returns before that process has flushed its file, so a reader may come too early.
        """
        until = time.monotonic() + 30
        while True:
            try:
                found = list(_records(self.file))
            except DecodeError:  # a record of which only a part is there yet
                found = []
            if any(record.WhichOneof("record_type") == "exit" for record in found):
                return found
            assert time.monotonic() < until, f"W&B never finished {self.file}"
            time.sleep(0.05)

    def of(self, kind: str) -> list[Any]:
        """The records of one type, without their envelope."""
        return [getattr(r, kind) for r in self.records if r.WhichOneof("record_type") == kind]

    @property
    def run(self) -> Any:
        """The record of the run itself: `run_id`, `display_name`, `run_group`, `job_type`, …"""
        return self.of("run")[-1]

    @property
    def stage(self) -> str:
        """Its job type, which is the stage."""
        return str(self.run.job_type)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was at the end."""
        updates = [*(u for r in self.of("run") for u in r.config.update)]
        updates += [u for r in self.of("config") for u in r.update]
        return _merged(updates)

    @property
    def summary(self) -> dict[str, Any]:
        """The summary as it was at the end, history included."""
        return {**_last(self.history), **_merged(u for r in self.of("summary") for u in r.update)}

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, step by step."""
        return [_merged(record.item) for record in self.of("history")]

    @property
    def exit_code(self) -> int:
        """0 where the stage was finished."""
        return int(self.of("exit")[-1].exit_code)

    @property
    def artifacts(self) -> dict[str, Any]:
        """Type -> record of the artifacts that were logged, those of W&B's own tables left out."""
        requests = [r.log_artifact.artifact for r in self.of("request")]
        found = [a for a in (*self.of("artifact"), *requests) if a.type and a.type != "run_table"]
        return {artifact.type: artifact for artifact in found}

    @property
    def files(self) -> Path:
        """The folder of its media."""
        return self.file.parent / "files"

    def table(self, name: str) -> dict[str, Any]:
        """The table that was logged under this name, `columns` and `data`."""
        (file,) = (self.files / "media" / "table").glob(f"{name}_[0-9]*.table.json")
        return dict(json.loads(file.read_text()))

    @property
    def tables(self) -> set[str]:
        """Names of all tables, plots' own left out."""
        names = {key for step in self.history for key in step}
        return {n for n in names if any((self.files / "media/table").glob(f"{n}_[0-9]*.json"))}


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The offline runs anywhere below `folder`, oldest first."""
    found = [OfflineRun(file) for file in folder.rglob("offline-run-*/run-*.wandb")]
    return sorted(found, key=lambda one: one.run.start_time.ToNanoseconds())


def manifest(artifact: Any) -> dict[str, Any]:
    """Path -> entry of a record's manifest."""
    return {entry.path: entry for entry in artifact.manifest.contents}


def _merged(updates: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for item in updates:
        *path, last = item.nested_key or [item.key]
        at = merged
        for key in path:
            at = at.setdefault(key, {})
        at[last] = json.loads(item.value_json)
    return merged


def _last(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for step in steps for key, value in step.items()}


def _records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format after a header of seven bytes."""
    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(parts)  # type: ignore[attr-defined]
            parts = b""


@contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """The environment of a user without any W&B settings, whose files all go to `folder`.

    What is set meanwhile is forgotten: W&B's mode is remembered in the environment.
    """
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        del os.environ[name]
    (folder / "wb").mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(folder / "home")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ[name] = str(folder / "wb")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
