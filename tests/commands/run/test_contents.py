"""Hashes of files: of what they hold, and no more often than needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gradgene.commands.run import contents as contents_module
from gradgene.commands.run import stage_files
from gradgene.commands.run.contents import Contents
from gradgene.provenance import file_hash


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read."""
    seen: list[Path] = []

    def reading(file: Path) -> str:
        seen.append(file)
        return file_hash(file)

    monkeypatch.setattr(contents_module, "file_hash", reading)
    return seen


def written(file: Path, text: str, age_s: float = 60) -> Path:
    """A file that was written a while ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    now = file.stat().st_mtime
    os.utime(file, (now - age_s, now - age_s))
    return file


def test_a_file_is_what_it_holds(tmp_path: Path) -> None:
    contents = Contents(None)
    file = written(tmp_path / "a", "1")
    assert contents.of(file) == file_hash(file) == contents.of(written(tmp_path / "b", "1"))
    assert contents.of(written(file, "2")) != contents.of(tmp_path / "b")
    assert contents.of(tmp_path / "nothing") is None


def test_a_folder_is_its_names_and_what_they_hold(tmp_path: Path) -> None:
    contents = Contents(None)
    written(tmp_path / "a/x/1", "one")
    written(tmp_path / "a/2", "two")
    first = contents.of(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    assert contents.of(tmp_path / "moved") == first is not None
    (tmp_path / "moved/2").rename(tmp_path / "moved/3")
    assert contents.of(tmp_path / "moved") != first
    written(tmp_path / "a/2", "owt")
    assert contents.of(tmp_path / "a") != first


def test_a_file_is_read_once(tmp_path: Path, read: list[Path]) -> None:
    file, notes = written(tmp_path / "a", "1"), tmp_path / "notes"
    found = [Contents(notes).of(file), Contents(notes).of(file)]
    assert len(set(found)) == 1 and read == [file]
    file.touch()
    written(file, "1")
    assert Contents(notes).of(file) == found[0] and len(read) == 2
    (note,) = notes.iterdir()
    note.write_text("{half")
    assert Contents(notes).of(file) == found[0] and len(read) == 3


def test_a_file_of_this_moment_is_read_again(tmp_path: Path, read: list[Path]) -> None:
    """It may change again within one tick of the clock, and look the same."""
    contents, file = Contents(tmp_path / "notes"), written(tmp_path / "a", "1", age_s=0)
    before, found = file.stat(), contents.of(file)
    file.write_text("2")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert contents.of(file) != found and len(read) == 2
    assert not (tmp_path / "notes").exists()


def test_reading_makes_no_cache(tmp_path: Path) -> None:
    Contents(tmp_path / "cache" / "hashes").of(written(tmp_path / "a", "1"))
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    Contents(tmp_path / "cache" / "hashes").of(tmp_path / "a")
    assert list((tmp_path / "cache" / "hashes").iterdir())


def test_a_published_model_is_its_vocabulary_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    weights = written(run / "checkpoint-1" / "model.safetensors", "w")
    monkeypatch.setattr(stage_files, "weights_file", lambda path, kind: weights)
    seen = set()
    for change in ("checkpoint-1/config.json", "tokenizer.pkl", "phenotypic_vocab/vocab.txt"):
        for text in ("1", "2"):
            written(run / change, text)
            seen.add(stage_files.contents_of_model(run, "auto", Contents(None)))
    assert len(seen) == 6
    written(run / "metrics.json", "1")
    assert stage_files.contents_of_model(run, "auto", Contents(None)) in seen


def test_of_several_files_the_names_count(tmp_path: Path) -> None:
    """Ids of cells may be made of them."""
    files = [written(tmp_path / name, "1") for name in ("a.h5ad", "b.h5ad")]
    of = stage_files._contents_of_cells
    assert of(files[:1], Contents(None)) == of(files[1:], Contents(None))
    assert of(files, Contents(None)) != of([files[0], files[0]], Contents(None))
