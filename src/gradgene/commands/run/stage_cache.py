"""What stages left behind, kept by what decided it, so that no job computes it a second time.

```
<cache>/entries/<address>/manifest.json   files with sizes and hashes, facts, who made it
<cache>/entries/<address>/files/...       hard links to the files of the run that made it
<cache>/locks/<address>.lock              held while it is computed
<cache>/hashes/...                        of files that were read before, see `Contents`
```

Deleting all or some of it at any time is safe: what is not there is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from gradgene.commands.run.contents import Contents
from gradgene.provenance import program_hash
from gradgene.store import atomic_path, write_json

__all__ = ["Entry", "StageCache"]

MANIFEST = "manifest.json"
#: Seconds between two looks at whether another job is ready.
POLL_S = 0.2
#: Nobody takes so many seconds to link files.
ABANDONED_S = 24 * 3600


@dataclass(frozen=True)
class Entry:
    """What is kept at one address.

    Attributes
    ----------
    folder
        Holds the files.
    hashes
        Relative name -> SHA-256 of every file.
    facts
        What else its maker wanted to be known.
    """

    folder: Path
    hashes: dict[str, str]
    facts: dict[str, Any]


class StageCache:
    """Files by address, where an address is made of everything that decides what they hold.

    Parameters
    ----------
    folder
        Of the cache, made when something is kept; None keeps nothing and finds nothing.
    warn
        Is told why something could not be kept.
    """

    def __init__(self, folder: Path | None, warn: Callable[[str], None] = print) -> None:
        self.folder, self.warn = folder, warn
        self.contents = Contents(folder / "hashes" if folder is not None else None)

    def address(self, kind: str, *parts: Any) -> str:
        """The name of what these parts decide, with this very program."""
        text = json.dumps([program_hash(), *parts], sort_keys=True, default=str)
        return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def find(self, address: str) -> Entry | None:
        """What is kept there; None where nothing is, or any of it is missing or was changed."""
        if self.folder is None:
            return None
        place = self._place(address)
        try:
            said = json.loads((place / MANIFEST).read_text())
            entry = Entry(place / "files", dict(said["files"]), dict(said["facts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = all(
            self.contents.of(entry.folder / name) == found for name, found in entry.hashes.items()
        )
        return entry if whole else None

    def restore(self, address: str, folder: Path) -> Entry | None:
        """Put what is kept there into `folder`; None, with nothing done, where nothing is."""
        entry = self.find(address)
        try:
            for name in entry.hashes if entry is not None else ():
                assert entry is not None
                with atomic_path(folder / name) as temporary:
                    _link(entry.folder / name, temporary)
        except FileNotFoundError:  # deleted or replaced by another job just now
            return None
        return entry

    def keep(
        self, address: str, folder: Path, files: Iterable[Path], facts: dict[str, Any] | None = None
    ) -> None:
        """Keep files of `folder` there, whole or not at all; what was kept there before goes."""
        if self.folder is None:
            return
        place = self._place(address)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(place.parent)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as name:
                made = Path(name) / address
                hashes = {}
                for file in files:
                    relative = file.relative_to(folder).as_posix()
                    kept = made / "files" / relative
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    _link(file, kept)
                    hashes[relative] = self.contents.of(file)
                before = self.find(address)
                if before is not None and before.hashes == hashes:
                    return  # another job has kept the same
                write_json({"files": hashes, "facts": facts or {}}, made / MANIFEST)
                if place.is_dir():
                    place.rename(Path(name) / "replaced")
                made.rename(place)
        except OSError as error:
            if self.find(address) is not None:
                return  # another job was quicker
            self.warn(f"not kept in the cache {self.folder}: {error.strerror or error}")

    @contextmanager
    def claimed(self, address: str, waits: Callable[[], None]) -> Iterator[None]:
        """Alone of all jobs that compute this; `waits` is called if another must be waited for.

        The operating system takes the claim back from a process that ends in any way.
        """
        lock = self._acquired(address, waits) if self.folder is not None else None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    @contextmanager
    def shared(
        self,
        address: str,
        folder: Path,
        files: Callable[[], list[Path]],
        waits: Callable[[], None],
        facts: Callable[[], dict[str, Any]] = dict,
        keeps: Callable[[], bool] = lambda: True,
    ) -> Iterator[Entry | None]:
        """Compute in the body what `files` will find in `folder`, unless it is kept already.

        Gives what was put into the folder; given None, the body does the work, and what is there
        at its end is kept unless it fails or `keeps` says no. Of several jobs one works and the
        others wait for it.
        """
        with self.claimed(address, waits):
            found = self.restore(address, folder)
            if found is None:
                own(files())
            yield found
            if found is None and keeps():
                self.keep(address, folder, files(), facts())

    def _acquired(self, address: str, waits: Callable[[], None]) -> BaseFileLock | None:
        assert self.folder is not None
        file = self.folder / "locks" / f"{address}.lock"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(file)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                waits()
                lock.acquire(poll_interval=POLL_S)
        # Where nothing can be written or locked nothing will be kept either; filelock raises
        # NotImplementedError on a file system without locks.
        except (OSError, NotImplementedError) as error:
            said = getattr(error, "strerror", None) or error
            self.warn(f"the cache {self.folder} cannot be used: {said}")
            return None
        return lock

    def _place(self, address: str) -> Path:
        assert self.folder is not None
        return self.folder / "entries" / address


def _remove_abandoned(entries: Path) -> None:
    """What jobs that were killed while they kept something have left, after a day."""
    for left in entries.glob(".new-*"):
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


def own(files: Iterable[Path]) -> None:
    """Give files that are linked elsewhere a copy of their own, before anything writes to them.

    What writes runs replaces files and never alters them, but for one: checkpoints, which Lightning
    copies over the file where the temporary folder is on another file system.
    """
    for file in files:
        if file.stat().st_nlink > 1:
            with atomic_path(file) as temporary:
                shutil.copy2(file, temporary)


def _link(file: Path, to: Path) -> None:
    to.unlink(missing_ok=True)
    try:
        os.link(file, to)
    except OSError:  # another file system, or one without links: then it is copied
        shutil.copy2(file, to)
