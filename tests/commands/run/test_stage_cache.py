"""The stage cache: whole entries or none, one job at a time, and no file altered in place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradgene.commands.run import stage_cache as stage_cache_module
from gradgene.commands.run.stage_cache import Entry, StageCache
from tests.integration.tiny import contents


def nobody() -> None:
    """Who is waited for here."""


@pytest.fixture
def cache(stage_cache: Path) -> StageCache:
    """A cache that must never have anything to warn of."""

    def warn(said: str) -> None:
        raise AssertionError(said)

    return StageCache(stage_cache, warn)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with two results."""
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "a.txt").write_text("a")
    (tmp_path / "made" / "deep" / "b.txt").write_text("b")
    return tmp_path / "made"


def kept(cache: StageCache, made: Path) -> str:
    """The address of the two results."""
    address = cache.address("toy", {"x": 1})
    cache.keep(address, made, [made / "a.txt", made / "deep" / "b.txt"], {"made_by": "me"})
    return address


def test_what_is_kept_is_restored(cache: StageCache, made: Path, tmp_path: Path) -> None:
    found = cache.restore(kept(cache, made), tmp_path / "new")
    assert found is not None and found.facts == {"made_by": "me"}
    assert contents(tmp_path / "new") == contents(made)
    assert (tmp_path / "new" / "a.txt").samefile(made / "a.txt"), "linked, which takes no space"
    assert cache.restore(cache.address("toy", {"x": 2}), tmp_path / "other") is None
    assert not (tmp_path / "other").exists()


def test_without_links_files_are_copied(
    cache: StageCache, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    address = kept(cache, made)
    assert cache.restore(address, tmp_path / "new") is not None
    assert contents(tmp_path / "new") == contents(made)
    (tmp_path / "new" / "a.txt").write_text("c")
    assert cache.find(address) is not None and (made / "a.txt").read_text() == "a"


@pytest.mark.parametrize("change", ["edit", "cut", "remove", "half a manifest", "no manifest"])
def test_what_is_damaged_is_not_restored(
    change: str, cache: StageCache, made: Path, tmp_path: Path
) -> None:
    address = kept(cache, made)
    found = cache.find(address)
    assert found is not None
    file, manifest = found.folder / "deep" / "b.txt", found.folder.parent / "manifest.json"
    changes: dict[str, Callable[[], object]] = {
        "edit": lambda: file.write_text("c"),
        "cut": lambda: file.write_text(""),
        "remove": file.unlink,
        "half a manifest": lambda: manifest.write_text(manifest.read_text()[:40]),
        "no manifest": manifest.unlink,
    }
    changes[change]()
    assert cache.restore(address, tmp_path / "new") is None
    assert not (tmp_path / "new").exists(), "nothing of it"
    (made / "deep" / "b.txt").unlink()
    (made / "deep" / "b.txt").write_text("b")
    kept(cache, made)  # takes the place of the damaged one
    assert cache.restore(address, tmp_path / "new") is not None
    assert contents(tmp_path / "new") == contents(made)


def test_an_address_is_of_everything_and_of_the_program(
    cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.address("toy", {"x": 1, "y": 2}, "weights")
    assert before == cache.address("toy", {"y": 2, "x": 1}, "weights")
    others = [cache.address("toy", {"x": 1, "y": 2}, "others"), cache.address("toy", {"x": 1})]
    monkeypatch.setattr(stage_cache_module, "program_hash", lambda: "of another version")
    others.append(cache.address("toy", {"x": 1, "y": 2}, "weights"))
    assert len({before, *others}) == 4


def test_a_failed_work_keeps_nothing(cache: StageCache, made: Path) -> None:
    address, files = cache.address("toy", 1), [made / "a.txt"]
    with pytest.raises(KeyboardInterrupt), cache.shared(address, made, lambda: files, nobody):
        raise KeyboardInterrupt
    with cache.shared(address, made, lambda: files, nobody) as found:  # and may be claimed again
        assert found is None
    assert cache.find(address) is not None


def test_a_linked_file_becomes_ones_own_before_the_work(
    cache: StageCache, made: Path, tmp_path: Path
) -> None:
    address, new = kept(cache, made), tmp_path / "new"
    cache.restore(address, new)
    files = [new / "a.txt", new / "deep" / "b.txt"]
    with cache.shared(cache.address("toy", "again"), new, lambda: files, nobody) as found:
        assert found is None
        files[0].write_text("written in place")
    assert (made / "a.txt").read_text() == "a" and cache.find(address) is not None


def test_without_a_folder_nothing_is_kept(made: Path, tmp_path: Path) -> None:
    off = StageCache(None)
    assert cache_twice(off, made) == [None, None]
    assert [f.name for f in tmp_path.iterdir()] == ["made"]


def cache_twice(cache: StageCache, made: Path) -> list[Entry | None]:
    """What the same work is given, twice."""
    found = []
    for _ in range(2):
        with cache.shared(cache.address("toy", 1), made, lambda: [made / "a.txt"], nobody) as entry:
            found.append(entry)
    return found


def test_a_folder_that_cannot_be_written_is_told_of(made: Path, tmp_path: Path) -> None:
    """And stops no work."""
    said: list[str] = []
    (tmp_path / "file").touch()
    cache = StageCache(tmp_path / "file" / "cache", said.append)
    assert cache_twice(cache, made) == [None, None]
    assert len(said) == 4 and all("Not a directory" in one for one in said)


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    """Another process that does a work."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield process
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def until(happened: Callable[[], bool]) -> None:
    """Wait for the other process."""
    latest = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < latest
        time.sleep(0.005)


def test_of_two_jobs_one_works_and_the_other_waits(
    cache: StageCache, made: Path, tmp_path: Path
) -> None:
    address, begun = cache.address("toy", 1), tmp_path / "begun"

    def slow() -> None:
        folder = tmp_path / "first"
        with cache.shared(address, folder, lambda: [*folder.glob("*")], nobody):
            begun.touch()
            time.sleep(0.5)
            folder.mkdir()
            (folder / "a.txt").write_text("made by the first")

    waited = []
    with forked(slow):
        until(begun.exists)
        with cache.shared(address, made, list, lambda: waited.append(True)) as found:
            assert found is not None
    assert waited == [True]
    assert (made / "a.txt").read_text() == "made by the first"


def test_a_killed_job_leaves_its_claim(cache: StageCache, made: Path, tmp_path: Path) -> None:
    address, begun = cache.address("toy", 1), tmp_path / "begun"

    def endless() -> None:
        with cache.shared(address, tmp_path / "first", list, nobody):
            begun.touch()
            time.sleep(600)

    waited: list[float] = []
    with forked(endless) as process:
        until(begun.exists)

        def waits() -> None:
            waited.append(time.monotonic())
            os.kill(process, signal.SIGKILL)

        with cache.shared(address, made, lambda: [made / "a.txt"], waits) as found:
            assert found is None
    assert len(waited) == 1 and time.monotonic() - waited[0] < 60
    assert cache.find(address) is not None


def test_an_entry_that_goes_while_it_is_taken_is_none(
    cache: StageCache, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = kept(cache, made)

    def gone(file: Path, to: Path) -> None:
        raise FileNotFoundError(file)

    monkeypatch.setattr(stage_cache_module, "_link", gone)
    assert cache.restore(address, tmp_path / "new") is None


def test_what_is_not_to_be_kept(cache: StageCache, made: Path) -> None:
    address, files = cache.address("toy", 1), [made / "a.txt"]
    with cache.shared(address, made, lambda: files, nobody, keeps=lambda: False):
        pass
    assert cache.find(address) is None


def test_what_killed_jobs_left_goes_after_a_day(cache: StageCache, made: Path) -> None:
    assert cache.folder is not None
    old, new = (cache.folder / "entries" / name for name in (".new-old", ".new-now"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    kept(cache, made)
    assert not old.exists() and new.exists()
