"""Runs a command under Hydra: composes, resolves and checks its configuration, then calls it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from gradgene.commands.config.binding import bind
from gradgene.commands.config.hydra_errors import HYDRA_ERRORS, Line, explain, only_missing
from gradgene.commands.line.options import CommandLine, Options
from gradgene.commands.sweep.jobs import Outcome, Outcomes, tell, write_csv
from gradgene.commands.sweep.plan import Plan, plan_sweep, refuse_without_sweep
from gradgene.commands.sweep.planned import Planned, total
from gradgene.errors import ConfigError, GradgeneError, closest

__all__ = ["Run", "run"]

Run = Callable[[DictConfig, Options, Path], Any]
"""A Hydra command: `run(cfg, options, output_dir)`, with `cfg` resolved and checked."""

# Sections with keys of the user's own choosing, which Hydra would only accept with a leading +.
_OPEN = re.compile(r"^study\.filters(\.[^=]+)?=")
# Flags with which Hydra prints something instead of running jobs.
_ASKING = ("--cfg", "--info")


@dataclass(frozen=True)
class _Task:
    """What Hydra calls once a job; it travels to other processes, so nothing comes back in it.

    Attributes
    ----------
    command, options
        What to run.
    line, words
        The command line, as Hydra sees it and as it was given.
    directory
        Where it was given.
    outcomes
        Where a job of a sweep writes what became of it; None for a single job.
    failures
        What a single job failed of: Hydra would print what is raised.
    insists
        Whether a job that has not made the figure of `sweep.objective` has failed; see `Plan`.
    """

    command: Run
    options: Options
    line: Line
    words: tuple[str, ...]
    directory: Path
    outcomes: Outcomes | None = None
    failures: list[Exception] = field(default_factory=list)
    insists: bool = True

    def __call__(self, cfg: DictConfig) -> Any:
        output_dir = Path(HydraConfig.get().runtime.output_dir)
        if self.outcomes is not None:
            return self._job(cfg, output_dir, self.outcomes)
        try:
            return self._work(cfg, output_dir)
        except Exception as error:
            self.failures.append(error)
            return None

    def _job(self, cfg: DictConfig, output_dir: Path, outcomes: Outcomes) -> float | None:
        """One of many: it notes how it ended and never raises, so that the others go on."""
        job = HydraConfig.get().job
        given = tuple(HydraConfig.get().overrides.task)
        began = time.perf_counter()

        def note(status: Any, **more: Any) -> None:
            seconds = round(time.perf_counter() - began, 2) if status != "started" else None
            folder = str(output_dir) if output_dir.exists() else ""
            outcomes.write(Outcome(job.num, given, folder, status, seconds=seconds, **more))

        note("started")
        name = f"job {job.num}" + (f" ({job.override_dirname})" if job.override_dirname else "")
        options = self.options
        if options.dry_run:
            options = replace(options, planned=Planned(outcomes.planned, job.num))
        try:
            print(name, flush=True)
            objective = replace(self, options=options)._work(cfg, output_dir)
        except (KeyboardInterrupt, SystemExit):
            note("failed", error="interrupted")
            raise
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            users = isinstance(error, GradgeneError)
            trace = "" if users else "".join(traceback.format_exception(error))
            note(
                "failed",
                error=said if users else f"{type(error).__name__}: {said}",
                traceback=trace,
            )
            print(f"gradgene: {name} failed: {said}", file=sys.stderr)
            return None  # no figure, which a search takes for a failed trial
        note("done", objective=objective)
        return objective

    def _work(self, cfg: DictConfig, output_dir: Path) -> float | None:
        """Run the command; returns the figure that the sweep compares, if it names one."""
        try:
            # Lightning starts further processes of a distributed run by the words in sys.argv.
            with _arguments(self.words), contextlib.chdir(self.directory):
                _prepare(cfg, self.line)
                self.command(cfg, self.options, output_dir)
        except HydraException as error:
            raise explain(error, self.line) from error
        finally:
            _leave_no_empty(output_dir)
        name = OmegaConf.select(cfg, "sweep.objective")
        if name is None or self.options.dry_run:
            return None
        return _figure(output_dir, name, insists=self.insists)


def run(command: Run, command_line: CommandLine, conf: Path, root: str = "config") -> None:
    """Compose `conf/<root>.yaml` with the line's overrides and run `command` on it.

    A sweep runs all its jobs even when one fails, and fails at the end.

    Raises
    ------
    ConfigError
        When the configuration cannot be composed, lacks a value or does not fit its targets.
    GradgeneError
        When a job says so; every other exception of a job is raised as it is.
    SystemExit
        When a job of a sweep failed of something that is not the user's.
    """
    options = command_line.options
    overrides = tuple(_normalised(o) for o in options.overrides)
    line = Line(conf, overrides, _extra(command_line), command_line.multirun, root)
    task = _Task(command, options, line, _as_given(command_line), Path.cwd())
    words = (*command_line.flags, *overrides)
    asking = any(flag.startswith(_ASKING) for flag in command_line.flags)
    if line.multirun and asking:
        raise ConfigError(
            "shows one configuration, and -m asks for many",
            where=command_line.flags[0],
            fix="leave out -m, and give every key one value",
        )
    if line.multirun:
        _sweep(task, words)
        return
    if not asking:
        refuse_without_sweep(overrides)
    try:
        _hydra(task, words)
    except (*HYDRA_ERRORS, ValueError) as error:
        # Errors of the job do not come this way (see _Task), so a ValueError is Hydra's own.
        raise explain(error, line) from error
    if task.failures:
        raise task.failures[0]


def _hydra(task: _Task, words: Sequence[str]) -> None:
    """Have Hydra compose and call `task`, in one process or many."""
    main = hydra.main(
        version_base="1.3", config_path=str(task.line.conf), config_name=task.line.root
    )(task)
    # Flags first: argparse loses overrides that follow a flag and a value.
    with _arguments(words), _full_errors():
        main()


def _sweep(task: _Task, words: Sequence[str]) -> None:
    """Run all jobs, tell what became of them, and fail if one failed."""
    console = Console(soft_wrap=True)
    try:
        plan = plan_sweep(task.line)
    except (*HYDRA_ERRORS, ValueError) as error:
        raise explain(error, task.line) from error
    if plan.caution:
        console.print(f"[yellow]{plan.caution}[/]")
    if plan.jobs is not None:
        n = len(plan.jobs)
        console.print(f"a sweep of {n} job{'s' * (n != 1)}", highlight=False)
    with _outcomes(plan, task.options.dry_run) as outcomes:
        broke: Exception | None = None
        try:
            job = replace(task, outcomes=outcomes, insists=plan.insists)
            _hydra(job, (*words, *plan.pinned))
        except KeyboardInterrupt:
            _end(outcomes, plan, task, console)
            raise
        except Exception as error:
            if not outcomes.read():
                raise _explained(error, task.line) from error
            broke = error
        verdict = _verdict(_end(outcomes, plan, task, console), outcomes)
    if verdict is not None:
        raise verdict
    if broke is not None and not task.options.dry_run:  # a search finds no figures in a dry run
        raise broke


def _explained(error: Exception, line: Line) -> Exception:
    return explain(error, line) if isinstance(error, (*HYDRA_ERRORS, ValueError)) else error


@contextlib.contextmanager
def _outcomes(plan: Plan, dry_run: bool) -> Iterator[Outcomes]:
    """Where jobs note what became of them; a dry run leaves nothing."""
    with (
        tempfile.TemporaryDirectory() if dry_run else contextlib.nullcontext(plan.folder) as folder
    ):
        outcomes = Outcomes(Path(folder) / ".jobs")
        outcomes.forget()
        with _unmarked(plan.folder) if dry_run else contextlib.nullcontext():
            yield outcomes


@contextlib.contextmanager
def _unmarked(folder: Path) -> Iterator[None]:
    """Hydra writes what a sweep was into its folder, also where nothing is to be done."""
    mark = folder / "multirun.yaml"
    before = mark.read_bytes() if mark.is_file() else None
    try:
        yield
    finally:
        if before is not None:
            mark.write_bytes(before)
        else:
            mark.unlink(missing_ok=True)
            _leave_no_empty(folder)


def _end(outcomes: Outcomes, plan: Plan, task: _Task, console: Console) -> list[Outcome]:
    """Print the table of all jobs and write it beside them."""
    final = outcomes.final(plan.jobs)
    objective, towards = plan.facts.objective, plan.facts.towards
    if task.options.dry_run and final:
        plans = Planned.read(outcomes.planned)
        told = [replace(o, seconds=plans[o.job].seconds if o.job in plans else None) for o in final]
        tell(told, None, towards, console, planned=True)
        if plans:
            console.print(total([*plans.values()]), highlight=False)
    elif final:
        tell(final, objective, towards, console)
        console.print(f"jobs:    {write_csv(final, plan.folder)}", highlight=False)
    return final


def _verdict(final: Sequence[Outcome], outcomes: Outcomes) -> BaseException | None:
    """The one exception that stands for all failures."""
    failed = [outcome for outcome in final if outcome.status == "failed"]
    if not failed:
        return None
    first = next((o for o in failed if not o.is_users), failed[0])
    summary = GradgeneError(
        f"{len(failed)} of {len(final)} jobs failed",
        where="sweep",
        found=f"job {first.job}: {first.error}",
        fix="mend it and give the same command again: what is done is skipped",
    )
    if first.is_users:
        return summary
    for outcome in failed:
        if outcome.traceback:
            print(outcome.traceback, file=sys.stderr)
            print(f"(job {outcome.job}: {outcomes.traceback_of(outcome)})", file=sys.stderr)
    return SystemExit(f"gradgene: error: {summary}")


def _figure(folder: Path, name: str, *, insists: bool) -> float | None:
    """A figure of the job's `metrics.json`; None where it is not there and nobody insists on it."""
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text()) if file.is_file() else {}
    value = metrics.get(name)
    if not isinstance(value, int | float):
        if not insists:
            return None
        raise ConfigError(
            "there is no such figure in metrics.json" if name not in metrics else "is no number",
            where="sweep.objective",
            expected=f"one of {closest(name, metrics)}",
            found=name,
            fix="the job is done: the same command with another sweep.objective is quick",
        )
    return float(value)


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


def _normalised(override: str) -> str:
    """As Hydra would have it: no + for a group that has a place, one for filters that have none."""
    if override.startswith("+sweep="):
        return override[1:]
    return f"++{override}" if _OPEN.match(override) else override


def _leave_no_empty(output_dir: Path) -> None:
    """Hydra has made the directory; it goes again if nothing was written."""
    with contextlib.suppress(OSError):
        output_dir.rmdir()


def _as_given(command_line: CommandLine) -> tuple[str, ...]:
    """Write the line back as words, all of them, for processes that are started from it."""
    options = command_line.options
    own = ["--dry-run"] * options.dry_run + ["--wandb"] * options.wandb
    words = (*options.words, *own, *command_line.flags, *options.overrides)
    return (options.command, *words)


def _prepare(cfg: DictConfig, line: Line) -> None:
    missing = only_missing(cfg)
    if missing:
        raise missing
    try:
        OmegaConf.resolve(cfg)
        bind(cfg)
    except HYDRA_ERRORS as error:
        raise explain(error, line) from error


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
