"""Python programs in processes of their own, forked from one that has everything imported.

Importing takes longer than all that most of them do. One server a pytest process, started when it
is first needed. How a program starts from nothing is tested where that is the point.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

__all__ = ["PATIENCE_S", "Forked"]

PATIENCE_S = 300
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preloaded"])


class Forked:
    """`python -m MODULE …` or `python FILE …`, in the folder we are in.

    Parameters
    ----------
    command
        Words after `python`.
    environment
        All of its environment; None for that of this process.
    terminal
        Name of a terminal to write to; None for files.
    """

    def __init__(
        self,
        *command: object,
        environment: dict[str, str] | None = None,
        terminal: str | None = None,
    ) -> None:
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115
        with pytest.MonkeyPatch.context() as patch:
            path = f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}"
            patch.setenv("PYTHONPATH", path)
            forkserver.ensure_running()
        given = dict(os.environ if environment is None else environment)
        outputs = [terminal or file.name for file in self._files]
        words = [*map(str, command)]
        self._process = SERVER.Process(target=_run, args=(words, given, os.getcwd(), outputs))
        self._process.start()
        self.pid = int(self._process.pid or 0)

    @property
    def said(self) -> str:
        """What it has written to stdout."""
        return Path(self._files[0].name).read_text()

    @property
    def error(self) -> str:
        """What it has written to stderr."""
        return Path(self._files[1].name).read_text()

    @property
    def code(self) -> int | None:
        """What it ended with: minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that it does, or for its end."""
        last = time.monotonic() + PATIENCE_S
        while not happened() and self.code is None:
            assert time.monotonic() < last, self.error
            time.sleep(0.005)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended."""
        self._process.join(patience_s)
        late = self.code is None
        if late:
            self.end(signal.SIGKILL)
        assert not late and self.code is not None, self.error
        return self.code

    def end(self, sent: signal.Signals) -> int:
        """Send a signal, and wait for its end."""
        if self.code is None:
            os.kill(self.pid, sent)
        self._process.join(PATIENCE_S)
        assert self.code is not None, "goes on all the same"
        return self.code


def _run(words: list[str], environment: dict[str, str], folder: str, outputs: list[str]) -> None:
    """In the new process: be the program."""
    from lightning.pytorch.utilities import rank_zero_only

    from gradgene.lit import distributed

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, name in enumerate(outputs, start=1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (open(n, "w", 1, "utf-8", closefd=False) for n in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What is read from the environment when it is imported.
    distributed.PARENT = os.getppid()
    rank_zero_only.rank = int(environment.get("RANK", 0))  # type: ignore[attr-defined]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
