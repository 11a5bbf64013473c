"""Runs a command under Hydra: composes, resolves and checks its configuration, then calls it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gradgene.commands.binding import bind
from gradgene.commands.hydra_errors import HYDRA_ERRORS, Line, check_sweep, explain, only_missing
from gradgene.commands.options import CommandLine, Options
from gradgene.errors import ConfigError, GradgeneError

__all__ = ["Run", "run"]

Run = Callable[[DictConfig, Options, Path], Any]
"""A Hydra command: `run(cfg, options, output_dir)`, with `cfg` resolved and checked."""

# Sections with keys of the user's own choosing, which Hydra would only accept with a leading +.
_OPEN = re.compile(r"^study\.filters(\.[^=]+)?=")


@dataclass
class _Jobs:
    """What happened to the jobs of a line; kept here because Hydra would print failures itself."""

    process: int = field(default_factory=os.getpid)
    count: int = 0
    failures: list[tuple[str, Exception]] = field(default_factory=list)


def run(command: Run, command_line: CommandLine, conf: Path, root: str = "config") -> None:
    """Compose `conf/<root>.yaml` with the line's overrides and run `command` on it.

    A sweep runs all its jobs even when one fails, and fails at the end.

    Raises
    ------
    ConfigError
        When the configuration cannot be composed, lacks a value or does not fit its targets.
    GradgeneError
        When a job says so; every other exception of a job is raised as it is.
    """
    overrides = tuple(_opened(o) for o in command_line.options.overrides)
    line = Line(conf, overrides, _extra(command_line), command_line.multirun, root)
    jobs = _Jobs()
    task = _task(command, command_line, line, jobs)
    main = hydra.main(version_base="1.3", config_path=str(conf), config_name=root)(task)
    words = [*command_line.flags, *overrides]
    try:
        # Flags first: argparse loses overrides that follow a flag and a value.
        with _arguments(words), _full_errors():
            if line.multirun:
                check_sweep(line)
            main()
    except (*HYDRA_ERRORS, ValueError) as error:
        # Errors of jobs do not come this way (see _task), so a ValueError is Hydra's own.
        if not jobs.failures:
            raise explain(error, line) from error
    if jobs.failures:
        raise _summary(jobs)


def _extra(command_line: CommandLine) -> Path | None:
    """Return the user's own config directory, absolute, if one was given."""
    if command_line.config_dir is None:
        return None
    directory = Path(command_line.config_dir).resolve()
    if not directory.is_dir():
        raise ConfigError(
            "there is no such directory",
            where="--config-dir",
            found=str(directory),
            fix="name a directory that holds, for example, experiment/mine.yaml",
        )
    return directory


def _opened(override: str) -> str:
    return f"++{override}" if _OPEN.match(override) else override


def _task(
    command: Run, command_line: CommandLine, line: Line, jobs: _Jobs
) -> Callable[[DictConfig], Any]:
    """Make the function that Hydra calls once a job."""
    original = [command_line.options.command, *_as_given(command_line)]

    def task(cfg: DictConfig) -> Any:
        jobs.count += 1
        output_dir = Path(HydraConfig.get().runtime.output_dir)
        try:
            # Lightning starts further processes of a distributed run by the words in sys.argv.
            with _arguments(original):
                _prepare(cfg, line)
                result = command(cfg, command_line.options, output_dir)
        except Exception as error:
            _leave_no_empty(output_dir)
            if isinstance(error, HydraException):
                error = explain(error, line)
            if os.getpid() != jobs.process:
                raise error from None  # a launcher's own process: only raising reaches the parent
            jobs.failures.append((_announce(error), error))
            return None
        if command_line.options.dry_run:
            _leave_no_empty(output_dir)
        return result

    return task


def _leave_no_empty(output_dir: Path) -> None:
    """Hydra has made the directory; it goes again if nothing was written."""
    with contextlib.suppress(OSError):
        output_dir.rmdir()


def _as_given(command_line: CommandLine) -> list[str]:
    """Write the line back as words, all of them, for processes that are started from it."""
    options = command_line.options
    own = ["--dry-run"] * options.dry_run + ["--wandb"] * options.wandb
    return [*options.words, *own, *command_line.flags, *options.overrides]


def _prepare(cfg: DictConfig, line: Line) -> None:
    missing = only_missing(cfg)
    if missing:
        raise missing
    try:
        OmegaConf.resolve(cfg)
        bind(cfg)
    except HYDRA_ERRORS as error:
        raise explain(error, line) from error


def _announce(error: Exception) -> str:
    """Name a failed job; in a sweep also say at once what failed, the other jobs go on."""
    settings = HydraConfig.get()
    if settings.mode != RunMode.MULTIRUN:
        return ""
    name = f"job {settings.job.num} ({settings.job.override_dirname})"
    if not isinstance(error, GradgeneError):
        traceback.print_exception(error)
    print(f"gradgene: {name} failed: {' '.join(str(error).split())}", file=sys.stderr)
    return name


def _summary(jobs: _Jobs) -> Exception:
    """Return the one exception that stands for all failures."""
    for _, error in jobs.failures:
        if not isinstance(error, GradgeneError):
            return error
    if jobs.count == 1:
        return jobs.failures[0][1]
    return GradgeneError(
        f"{len(jobs.failures)} of {jobs.count} jobs failed",
        where="sweep",
        found=f"{jobs.failures[0][0]}: {jobs.failures[0][1]}",
        fix="see the lines above; the other jobs are done",
    )


@contextlib.contextmanager
def _arguments(words: Sequence[str]) -> Iterator[None]:
    """Hydra reads its command line from sys.argv only."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _full_errors() -> Iterator[None]:
    """Have Hydra raise what goes wrong instead of printing it and exiting."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
