"""Processes of a distributed run that are forked with everything imported.

Importing takes longer than all that the tests do in them. Lightning finds in the environment what
`torchrun` would have set, and starts none itself; how it starts its own is tested by commands.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Callable

from gradgene.lit import distributed
from tests.forked import Forked

__all__ = ["run_forked", "run_program", "run_ranks"]


def run_program(*command: object) -> str:
    """What a program prints, which must end with 0."""
    return _ended([Forked(*command)])


def run_ranks(n: int, *words: object) -> str:
    """What `gradgene …` prints in `n` processes that are to find each other; all end with 0."""
    port, here = _free_port(), dict(os.environ)
    return _ended(
        [
            Forked("-m", "gradgene", *words, environment=here | _as_torchrun(rank, n, port))
            for rank in range(n)
        ]
    )


def _ended(programs: list[Forked]) -> str:
    try:
        codes = [program.wait() for program in programs]
    finally:  # where one hangs, so may the others
        for program in programs:
            program.end(signal.SIGKILL)
    assert codes == [0] * len(programs), (codes, [program.error[-3000:] for program in programs])
    return "".join(program.said for program in programs)


def run_forked(n: int, function: Callable[[], None]) -> None:
    """Call `function` in `n` processes that are to find each other; all must end with 0."""
    port = _free_port()
    processes = [_started(rank, n, port, function) for rank in range(n)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    assert codes == [0] * n, codes


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _as_torchrun(rank: int, n: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n),
        "LOCAL_WORLD_SIZE": str(n),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
    }


def _started(rank: int, n: int, port: int, function: Callable[[], None]) -> int:
    process = os.fork()
    if process:
        return process
    try:
        os.environ.update(_as_torchrun(rank, n, port))
        distributed.PARENT = os.getppid()
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
