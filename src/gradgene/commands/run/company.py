"""The processes that share a command: when they meet, what they do together, and how they end.

One, the main one, decides and writes; the others help with what is shared and wait meanwhile. Those
that Lightning starts are started when there is first something to share. After a failure of any
nobody waits for it: it leaves a note in the run's folder, which all others watch for.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed

from gradgene.commands.line.endings import (
    SEVERAL,
    Ending,
    OtherProcessError,
    ending_of,
    forget_note,
    leave_note,
    read_note,
)
from gradgene.commands.run.spawning import is_spawned
from gradgene.lit import end_started, leave_orphaned, leave_processes, meet, others_are_there

__all__ = ["Company"]

#: What Lightning sets in the process that starts others.
LAUNCHED = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
#: Seconds between two looks for a note.
PULSE_S = 0.2
#: Seconds that the main process has to notice by itself that another has gone: it closes its
#: tracker then, which it cannot while it is deep in a computation or waits on a GPU.
GRACE_S = 5.0


class Company:
    """The processes of one command.

    Parameters
    ----------
    folder
        The run's folder, the same to all of them.
    is_main
        Whether this is the main process.
    trainer
        Makes a trainer of the configured kind.
    several
        Whether there may be other processes at all.
    """

    def __init__(
        self, folder: Path, is_main: bool, trainer: Callable[[], Any], several: bool
    ) -> None:
        self.folder, self.is_main, self.several = folder, is_main, several
        self._trainer = trainer
        self._group: Any = None  # to wait in, while together
        self._launcher: Any = None
        self._met = False
        self._launched = False  # by this process
        self._called: str | None = None  # what a helper was called for and has not done
        self._gone = threading.Event()

    def begin(self, task: str) -> None:
        """In the main process: call the others to a task."""
        if self.several:
            self.meet()
            self.agreed(task)

    def help(self, task: str, work: Callable[[], None]) -> None:
        """In another process: take part in a task when the main one begins it, if ever."""
        if not self.several:
            return
        self.meet()
        if self._called is None:
            self._called = self.agreed("")
        if self._called == task:
            work()
            self.wait()
            self._called = None

    def agreed(self, value: Any) -> Any:
        """What the main process says; all of them must ask. Alone, `value`."""
        if self._group is None:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said, src=0, group=self._group)
        return said[0]

    def wait(self) -> None:
        """Wait for each other, if together."""
        if self._group is not None:
            torch.distributed.barrier(self._group)

    def meet(self) -> None:
        """Start the others, or find them; nothing where that is done."""
        if self._met:
            return
        self._launched = not others_are_there()
        trainer = self._trainer()
        self._launcher = trainer.strategy.launcher
        if self.is_main and not is_spawned():
            forget_note(self.folder)  # of an earlier command: no one has begun to watch yet
        os.environ[SEVERAL] = "1"
        threading.Thread(target=self._watch, daemon=True).start()
        self._group, self._met = meet(trainer), True

    def part(self) -> None:
        """Nothing more is shared: the others may end. All of them must say so."""
        if self.several and others_are_there():
            self.meet()  # they wait for this
        if self._called is None:
            self.agreed("")
        self._group = None
        self._gone.set()
        leave_processes()
        self._forget_launch()

    def fail(self, error: BaseException) -> None:
        """This process has failed: end the others.

        Raises
        ------
        OtherProcessError
            In the main process, where it only failed because another had; in another, always: the
            main one speaks for it.
        """
        if self.several and others_are_there():
            try:
                self.meet()
            except Exception:
                return  # nobody is met by a process that cannot make a trainer
        self._gone.set()
        ending = ending_of(error)
        before = leave_note(self.folder, ending) if self._met and ending.code else None
        if self._launched:
            end_started([self._launcher])
            forget_note(self.folder)
        self._forget_launch()
        if self._met and not self.is_main:
            raise OtherProcessError(Ending(0)) from error
        if before is not None:
            raise OtherProcessError(before) from error

    def _forget_launch(self) -> None:
        """Let the next command of this process start others anew."""
        if self._launched:
            for name in LAUNCHED:
                os.environ.pop(name, None)

    def _watch(self) -> None:
        """End this process when another has failed, or when nobody is left to help."""
        while not self._gone.wait(PULSE_S):
            if not self.is_main:
                leave_orphaned()
            # Until they have met, a note may be one of an earlier command.
            ending = read_note(self.folder) if self._met else None
            if ending is None:
                continue
            if self.is_main:
                if self._gone.wait(GRACE_S):
                    return
                end_started([self._launcher])
                if self._launched:
                    forget_note(self.folder)
                if ending.said and not is_spawned():
                    print(ending.said, file=sys.stderr, flush=True)
            os._exit(ending.code if self.is_main else 0)
