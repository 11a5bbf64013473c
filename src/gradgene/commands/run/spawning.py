"""Runs a command here, or in processes that Python starts: a leaf of `trainer` with spawn: true.

Lightning starts processes by giving the command line again, which a notebook does not have and
which in a sweep is the whole sweep's. Here each gets the composed configuration instead. To
Lightning they look like those of `torchrun`, so that everything else is the same.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from gradgene.commands.line.endings import ending_of, forget_note, leave_note, read_note
from gradgene.commands.line.options import Options
from gradgene.errors import GradgeneError

__all__ = ["is_spawned", "run_command", "spawns"]

#: What `torchrun` calls the id of a run.
RUN_ID = "gradgene"
#: Seconds that processes get to end by themselves after Ctrl-C.
GRACE_S = 10.0
#: Seconds between two looks whether the process that started this one is still there.
PULSE_S = 0.5


def run_command(module: str, cfg: DictConfig, options: Options, output_dir: Path) -> Any:
    """Call `run` of a command's module, in several processes where the trainer asks for that.

    Raises
    ------
    GradgeneError
        What a process said of the user's input.
    RuntimeError
        For any other failure of a process.
    """
    if options.dry_run or not spawns(cfg):
        return importlib.import_module(module).run(cfg, options, output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    forget_note(output_dir)
    hydra = HydraConfig.instance().cfg
    job = (module, cfg, options, output_dir, hydra, sys.argv)
    world, port = _n_processes(cfg), _free_port()
    processes = [_started(world, rank, port, job) for rank in range(world)]
    try:
        _join(processes)
    except KeyboardInterrupt:
        _end(processes, signal.SIGINT)
        raise
    finally:
        _end(processes, signal.SIGKILL)
    _raise_failure(processes, output_dir)
    return None


def spawns(cfg: Any) -> bool:
    """Whether the processes of this configuration are started by Python, and are not yet."""
    strategy = cfg.trainer.get("strategy") if "trainer" in cfg else None
    asked = isinstance(strategy, DictConfig) and bool(strategy.get("spawn"))
    return asked and "LOCAL_RANK" not in os.environ


def is_spawned() -> bool:
    """Whether this process was started here, by one that says for all how they ended."""
    return os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID


def _n_processes(cfg: Any) -> int:
    """As many as the trainer says, or one a GPU."""
    devices = int(cfg.trainer.devices)
    return devices if devices > 0 else max(torch.cuda.device_count(), 1)


def _started(world: int, rank: int, port: int, job: tuple[Any, ...]) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(target=_run, args=job)
    with _environment(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID=RUN_ID,
    ):
        process.start()
    return process


def _run(
    module: str, cfg: DictConfig, options: Options, output_dir: Path, hydra: Any, argv: list[str]
) -> None:
    """One process: what it fails of is left in a note for the one that started it."""
    sys.argv = argv
    HydraConfig.instance().cfg = hydra
    OmegaConf.set_readonly(cfg, None)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        importlib.import_module(module).run(cfg, options, output_dir)
        code = 0
    except BaseException as error:
        ending = ending_of(error)
        if ending.code:
            leave_note(output_dir, ending)
        code = ending.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as commands.main.end_process


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone, which would let it go on alone."""
    while os.getppid() == parent:
        time.sleep(PULSE_S)
    os._exit(1)


def _join(processes: Sequence[SpawnProcess]) -> None:
    """Wait until all have ended, or one has failed and the others had time to notice."""
    left = {process.sentinel: process for process in processes}
    failed = False
    while left:
        ended = wait([*left], timeout=GRACE_S if failed else None)
        if not ended:
            return
        for sentinel in ended:
            process = left.pop(sentinel)  # type: ignore[arg-type]
            process.join()  # it has an exit code only when it is buried
            failed |= process.exitcode != 0


def _end(processes: Sequence[SpawnProcess], signum: signal.Signals) -> None:
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signum)
    for process in processes:
        process.join(GRACE_S)


def _raise_failure(processes: Sequence[SpawnProcess], output_dir: Path) -> None:
    codes = [process.exitcode for process in processes]
    if not any(codes):
        return
    ending = read_note(output_dir)
    forget_note(output_dir)
    if ending is None:
        raise RuntimeError(f"processes ended with {codes}")
    if ending.code == 130:
        raise KeyboardInterrupt
    if ending.code == 2:
        raise GradgeneError(ending.said.removeprefix("gradgene: error: "))
    raise RuntimeError(ending.said)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """With these variables, which a process started meanwhile inherits."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
