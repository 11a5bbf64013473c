"""The `gradgene` command: finds the command, runs it, and turns every ending into an exit code.

0 done · 2 the user's input is wrong (one line) · 130 interrupted · 1 anything else (traceback).
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gradgene import __version__
from gradgene.commands import groups
from gradgene.commands.help import command_help, exists, general_help
from gradgene.commands.options import CommandLine, Options, read_line
from gradgene.errors import ConfigError, GradgeneError, OutputError, closest

__all__ = ["COMMANDS", "Options", "end_process", "main", "program", "root_of"]

# Modules are loaded only when run, and Hydra only for commands with a config: `--help` is quick.
COMMANDS: dict[str, tuple[str, str]] = {
    "study": (
        "gradgene.commands.study",
        "the whole job: train, attribute, prune, evaluate, report; finished stages are skipped",
    ),
    "pretrain": ("gradgene.commands.pretrain", "learn from masked genes and phenotypes of cells"),
    "train": ("gradgene.commands.train", "train or fine-tune a model on cells"),
    "attribute": ("gradgene.commands.attribute", "score genes with a trained model"),
    "prune": ("gradgene.commands.prune", "test a gene ranking by removing genes"),
    "evaluate": (
        "gradgene.commands.evaluate",
        "judge the scores: known genes, faithfulness and more",
    ),
    "report": ("gradgene.commands.report", "write report.html for a finished run: report DIR"),
    "data": (
        "gradgene.commands.data",
        "a data set: data inspect PATH, data validate experiment=..., data fetch OUT.h5ad",
    ),
    "benchmark": ("gradgene.commands.benchmark", "measure speed, memory and truth"),
    "query": ("gradgene.commands.query", "look up genes and cells in stored attributions"),
    "completion": ("gradgene.commands.completion", "a script that lets a shell complete by TAB"),
}
# Commands with words and settings of their own, which write at their end and resume nothing; the
# others are composed by Hydra.
_WORDS_ONLY = ("report", "data", "query", "benchmark", "completion")
# What composes a configuration all the same, only to check it: nothing is kept of its output.
_CHECKS = ("data validate",)
# The root configuration of a command, where it is not conf/config.yaml.
_ROOTS = {"pretrain": "pretrain"}
_RUNNER = "gradgene.commands.hydra_run"

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Parameters
    ----------
    argv
        Words after the program's name; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _dispatch(arguments)
    except GradgeneError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except SystemExit as leaving:
        # Lightning answers Ctrl-C with sys.exit(1) after saving its state.
        if _follows_interrupt(leaving):
            return _interrupted(arguments)
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return 1
    except Exception as error:
        # What a library trips over while it cleans up after Ctrl-C (a progress bar that was
        # just starting, say) is the interrupt's doing, not a fault of its own.
        if _follows_interrupt(error):
            return _interrupted(arguments)
        disk = _disk_error(error)
        if disk:
            return _complain(disk)
        traceback.print_exc()
        return 1
    return 0


def program() -> NoReturn:
    """Run the command line of this process and end it with the exit code."""
    code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        end_process(code)
    sys.exit(code)


def end_process(code: int) -> NoReturn:
    """End this process of several at once, with what it has printed and without anything more.

    A thread of the group may still be giving a tensor back when the interpreter goes down, and
    Python ends such a thread in a way that aborts the process: finished work would look failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _dispatch(arguments: list[str]) -> None:
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        present = {name: line for name, (module, line) in COMMANDS.items() if exists(module)}
        print(general_help(present))
    elif first == "--version":
        print(f"gradgene {__version__}")
    elif first not in COMMANDS:
        given = " ".join(arguments)
        raise ConfigError(
            "no command given" if "=" in first or first.startswith("-") else "no such command",
            where=first,
            expected=f"one of {closest(first, COMMANDS)}",
            fix=f"write `gradgene study {given}`" if "=" in first else "try `gradgene --help`",
        )
    else:
        _command(read_line(first, arguments[1:]))


def _command(line: CommandLine) -> None:
    name = line.options.command
    module, what = COMMANDS[name]
    check = " ".join([name, *line.options.words]) in _CHECKS
    root = groups.conf_dir() / "config.yaml" if check else root_of(name)
    if not exists(module):
        raise ConfigError("this command is not part of this version yet", where=name)
    if line.help:
        print(command_help(name, what, module, root))
        return
    if root is None:
        if line.flags:
            raise ConfigError("takes no such option", where=name, found=" ".join(line.flags))
        importlib.import_module(module).call(line.options)
        return
    if line.options.words and not check:
        word = line.options.words[0]
        raise ConfigError(
            "is neither key=value nor an option",
            where=word,
            fix=f"write experiment={word} to choose an experiment, "
            "and put spaces and brackets in quotes",
        )
    runner = importlib.import_module(_RUNNER)
    with tempfile.TemporaryDirectory() if check else contextlib.nullcontext() as nowhere:
        runner.run(
            lambda *given: importlib.import_module(module).run(*given),
            line.into(nowhere) if nowhere else line,
            root.parent,
            root.stem,
        )


def root_of(command: str) -> Path | None:
    """The root configuration of a command; None for those with words and settings of their own."""
    if command in _WORDS_ONLY:
        return None
    return groups.conf_dir() / f"{_ROOTS.get(command, 'config')}.yaml"


def _complain(error: GradgeneError) -> int:
    print(f"gradgene: error: {error}", file=sys.stderr)
    return 2


def _follows_interrupt(error: BaseException) -> bool:
    """Whether the error came up while a Ctrl-C was being answered."""
    seen: BaseException | None = error.__context__
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen is not None


def _interrupted(arguments: Sequence[str]) -> int:
    resumes = "what was finished is kept, the same command resumes"
    again = "the same command starts from the beginning"
    said = again if arguments and arguments[0] in _WORDS_ONLY else resumes
    print(f"gradgene: interrupted; {said}", file=sys.stderr)
    return 130


def _disk_error(error: Exception) -> OutputError | None:
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
