"""How a command ends: its exit code, what is said of it, and how its processes tell each other.

0 done · 2 the user's input is wrong (one line) · 130 interrupted · 1 anything else (traceback).
"""

from __future__ import annotations

import errno
import json
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from gradgene.errors import GradgeneError, OutputError

__all__ = [
    "RESUMES",
    "SEVERAL",
    "Ending",
    "OtherProcessError",
    "ending_of",
    "forget_note",
    "leave_note",
    "read_note",
]

# What a full or forbidden disk says: the user's to mend, so one line instead of a traceback.
_DISK_ERRORS = {
    errno.ENOSPC: "free some space, or write elsewhere with paths.output_dir=...",
    errno.EDQUOT: "your quota is used up: free some space, or write elsewhere",
    errno.EROFS: "the file system is read-only: write elsewhere with paths.output_dir=...",
    errno.EACCES: "ask for permission, or choose another path (paths.output_dir=... for results)",
    errno.EPERM: "ask for permission, or choose another path (paths.output_dir=... for results)",
    errno.ENOTDIR: "a file is where a directory should be: choose another path",
    errno.EEXIST: "a file is where a directory should be: choose another path",
    errno.EISDIR: "a directory is where a file should be: choose another path",
    errno.ENAMETOOLONG: "the name is too long: set paths.output_dir or hydra.sweep.subdir",
}
#: Seconds that another process gets to finish its note.
WRITING_S = 2.0
#: Variable of the environment of a process that is one of several; see `main.end_process`.
SEVERAL = "GRADGENE_SEVERAL"
#: What is true after Ctrl-C of all commands with a configuration.
RESUMES = "what was finished is kept, the same command resumes"


@dataclass(frozen=True)
class Ending:
    """The exit code of a process, and what is said of it on stderr; "" for nothing."""

    code: int
    said: str = ""


class OtherProcessError(Exception):
    """Another process of this command failed, and how; here there is nothing more to say."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


def ending_of(error: BaseException, after_interrupt: str = RESUMES) -> Ending:
    """How a process ends that `error` came out of."""
    interrupted = Ending(130, f"gradgene: interrupted; {after_interrupt}")
    if isinstance(error, OtherProcessError):
        return error.ending
    if isinstance(error, GradgeneError):
        return Ending(2, f"gradgene: error: {error}")
    # Lightning answers Ctrl-C with sys.exit(1) after saving its state. What a library trips over
    # while it cleans up (a progress bar that was just starting, say) is the interrupt's doing too.
    if isinstance(error, KeyboardInterrupt) or _follows_interrupt(error):
        return interrupted
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return Ending(error.code or 0)
        return Ending(1, str(error.code))
    disk = _disk_error(error)
    if disk:
        return Ending(2, f"gradgene: error: {disk}")
    return Ending(1, "".join(traceback.format_exception(error)).rstrip())


def leave_note(folder: Path, ending: Ending) -> Ending | None:
    """Tell the other processes of a run how this one ended; what another said before, if any."""
    try:
        with _note(folder).open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(ending)))
    except FileExistsError:
        until = time.monotonic() + WRITING_S
        while (before := read_note(folder)) is None and time.monotonic() < until:
            time.sleep(0.01)
        return before
    except OSError:  # a full disk, say: then this process ends as it would alone
        return None
    return None


def read_note(folder: Path) -> Ending | None:
    """How the first process ended that failed; None where none has, or is still writing."""
    try:
        return Ending(**json.loads(_note(folder).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def forget_note(folder: Path) -> None:
    """Remove what an earlier command left."""
    _note(folder).unlink(missing_ok=True)


def _note(folder: Path) -> Path:
    return folder / ".failed.json"


def _follows_interrupt(error: BaseException) -> bool:
    """Whether the error came up while a Ctrl-C was being answered."""
    seen: BaseException | None = error.__context__
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen is not None


def _disk_error(error: BaseException) -> OutputError | None:
    """Return the one-line error for a full, read-only or forbidden disk, else None."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        where = str(error.filename) if error.filename is not None else "output"
        what = error.strerror or str(error)
        return OutputError(what, where=where, fix=_DISK_ERRORS[error.errno])
    text = str(error)
    # torch and HDF5 report a full disk as plain text.
    if "No space left on device" in text or "PytorchStreamWriter failed writing" in text:
        return OutputError(
            f"cannot be written: {text.splitlines()[0]}",
            where="output",
            fix=_DISK_ERRORS[errno.ENOSPC],
        )
    return None
