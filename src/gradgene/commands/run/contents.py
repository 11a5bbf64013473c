"""What files hold, as hashes: a file that is touched or moved is the same, a changed one is not."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from gradgene.provenance import file_hash, settings_hash
from gradgene.store import write_json

__all__ = ["Contents", "combined"]

#: A file changed so lately may change again within one tick of the file system's clock.
UNSETTLED_S = 2.0

_log = logging.getLogger(__name__)


class Contents:
    """SHA-256 of files and folders; what was read once is not read again while it looks the same.

    Parameters
    ----------
    folder
        Where hashes are noted with the sizes and times of the files, for every process that uses
        this folder; None notes them in this object only.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._noted: dict[str, tuple[str, str]] = {}

    def of(self, path: str | Path) -> str | None:
        """Hash of a file, or of the names and hashes of all files in a folder; None for neither."""
        place = Path(path).expanduser().resolve()
        inside = _inside(place)
        try:
            stats = {name: file.stat() for name, file in inside.items()}
        except FileNotFoundError:  # deleted just now
            return None
        if not stats:
            return None
        looks = settings_hash(
            [[name, s.st_size, s.st_mtime_ns, s.st_ino] for name, s in stats.items()]
        )
        noted = self._noted.get(str(place)) or self._read(place)
        if noted is not None and noted[0] == looks:
            return noted[1]
        hashes = {name: file_hash(file) for name, file in inside.items()}
        found = hashes[""] if "" in hashes else combined(hashes)
        if max(s.st_mtime for s in stats.values()) < time.time() - UNSETTLED_S:
            self._note(place, looks, found)
        return found

    def _read(self, place: Path) -> tuple[str, str] | None:
        file = self._file(place)
        if file is None or not file.is_file():
            return None
        try:
            said = json.loads(file.read_text())
            return str(said["looks"]), str(said["sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.info("a noted hash of %s cannot be read: %s", place, error)
            return None

    def _note(self, place: Path, looks: str, found: str) -> None:
        self._noted[str(place)] = looks, found
        file = self._file(place)
        # A cache begins with something to keep, and not with a dry run.
        if file is None or self.folder is None or not self.folder.parent.is_dir():
            return
        try:
            write_json({"path": str(place), "looks": looks, "sha256": found}, file)
        except OSError as error:  # then it is read again the next time
            _log.info("the hash of %s is not noted: %s", place, error)

    def _file(self, place: Path) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{hashlib.sha256(str(place).encode()).hexdigest()[:32]}.json"


def _inside(place: Path) -> dict[str, Path]:
    """Relative name -> file, sorted; a file itself has no name, for it may be moved."""
    if place.is_file():
        return {"": place}
    files = sorted(file for file in place.rglob("*") if file.is_file())
    return {file.relative_to(place).as_posix(): file for file in files}


def combined(hashes: Mapping[str, str | None]) -> str:
    """One hash of several, by name."""
    lines = "".join(f"{found}  {name}\n" for name, found in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()
