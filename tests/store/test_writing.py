"""A reader never sees half a file, and a failure loses nothing that was there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from gradgene.errors import OutputError
from gradgene.store import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
    write_parquet,
)
from gradgene.store.writing import HOST


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files included."""
    return sorted(p.name for p in folder.iterdir())


def test_the_new_file_replaces_the_old(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.txt"
    for text in ("one", "two"):
        with atomic_path(file) as temporary:
            assert temporary.parent == file.parent  # or renaming would copy across disks
            temporary.write_text(text)
            assert not file.exists() or file.read_text() == "one"
        assert file.read_text() == text
    assert names(file.parent) == ["b.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "b.txt"
    file.write_text("old")
    with pytest.raises(error), atomic_path(file) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert file.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_a_body_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "b.txt"
    file.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(file):
        pass
    assert file.read_text() == "old"


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"gene": ["a", "b"], "score": [1.5, None]}, index=[7, 9])
    write_parquet(frame, tmp_path / "new" / "t.parquet")
    read = pd.read_parquet(tmp_path / "new" / "t.parquet")
    pd.testing.assert_frame_equal(read, frame.reset_index(drop=True))
    with pytest.raises(Exception, match="object"):
        write_parquet(pd.DataFrame({"gene": [object()]}), tmp_path / "new" / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "t.parquet"), read)
    assert names(tmp_path / "new") == ["t.parquet"]


def test_json(tmp_path: Path) -> None:
    write_json({"b": 1, "a": Path("x"), "c": [1.5]}, tmp_path / "m.json")
    read = json.loads((tmp_path / "m.json").read_text())
    assert read == {"b": 1, "a": "x", "c": [1.5]} and list(read) == ["b", "a", "c"]


def test_lines_never_interleave(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"

    def append(who: int) -> None:
        for i in range(50):
            append_json_line({"who": who, "i": i, "text": "x" * 5000}, file)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(append, range(3)))
    lines = [json.loads(line) for line in file.read_text().splitlines()]  # none is empty
    for who in range(3):
        assert [line["i"] for line in lines if line["who"] == who] == list(range(50))


def test_a_line_cut_off_by_a_crash_costs_nothing_but_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "progress.jsonl"
    for i in (1, 2):
        append_json_line({"i": i}, file)
    with file.open("a") as stream:
        stream.write('{"i": 3, "te')
    append_json_line({"i": 4}, file)
    append_json_line({"i": 5}, file)
    assert caplog.messages == []
    assert read_json_lines(file) == [{"i": 1}, {"i": 2}, {"i": 4}, {"i": 5}]
    assert caplog.messages == [f"ignoring a damaged line of {file}"]
    assert file.read_text().splitlines()[2] == '{"i": 3, "te'


def test_only_mappings_are_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "progress.jsonl"
    assert read_json_lines(file) == []
    file.write_text('{"i": 1}\n\n3\n[2]\n{"i": 4}\n')
    assert read_json_lines(file) == [{"i": 1}, {"i": 4}]
    assert len(caplog.messages) == 2  # an empty line is no damage


def test_a_writable_folder_is_left_clean(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "run")
    assert names(tmp_path / "new" / "run") == []
    (tmp_path / "new" / "run" / "kept").touch()
    require_writable(tmp_path / "new" / "run")
    assert names(tmp_path / "new" / "run") == ["kept"]


@pytest.mark.parametrize("below", ["file", "file/run", "file/runs/today"])
def test_an_unwritable_folder_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError) as caught:
        require_writable(tmp_path / below)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("paths.output_dir", str(tmp_path / below), "found", "to fix"):
        assert part in message
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize("failing", ["mkdir", "write_bytes"])
def test_every_system_error_becomes_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, failing, refuse)
    # A folder that may not be entered refuses to say what is in it, too.
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(OutputError, match="found Permission denied"):
        require_writable(tmp_path)


def test_a_full_disk_leaves_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        write_bytes(self, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OutputError, match="No space left on device"):
        require_writable(tmp_path)
    assert names(tmp_path) == []


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".a[1].json.{HOST}.{gone.pid}.tmp"
    writing = tmp_path / f".a[1].json.{HOST}.{os.getppid()}.tmp"  # of a process that is still there
    other = tmp_path / f".b.json.{HOST}.{gone.pid}.tmp"
    elsewhere = tmp_path / f".a[1].json.elsewhere.{gone.pid}.tmp"
    for file in (left, writing, other, elsewhere):
        file.write_text("{")
    write_json({}, tmp_path / "a[1].json")
    assert not left.exists() and writing.exists() and other.exists() and elsewhere.exists()
