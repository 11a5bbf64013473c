"""The `gradgene` command: finds the command, runs it, and turns every ending into an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gradgene import __version__
from gradgene.commands.config import groups
from gradgene.commands.line.endings import RESUMES, SEVERAL, ending_of
from gradgene.commands.line.help import command_help, general_help
from gradgene.commands.line.options import CommandLine, Options, read_line
from gradgene.errors import ConfigError, closest

__all__ = ["COMMANDS", "Options", "end_process", "main", "program", "root_of"]

# Modules are loaded only when run, and Hydra only for commands with a config: `--help` is quick.
COMMANDS: dict[str, tuple[str, str]] = {
    "study": (
        "gradgene.commands.study",
        "the whole job: train, attribute, prune, evaluate, report; finished stages are skipped",
    ),
    "pretrain": (
        "gradgene.commands.train.pretrain",
        "learn from masked genes and phenotypes of cells",
    ),
    "train": ("gradgene.commands.train.stage", "train or fine-tune a model on cells"),
    "attribute": ("gradgene.commands.attribute.stage", "score genes with a trained model"),
    "prune": ("gradgene.commands.prune.stage", "test a gene ranking by removing genes"),
    "evaluate": (
        "gradgene.commands.evaluate.stage",
        "judge the scores: known genes, faithfulness and more",
    ),
    "report": (
        "gradgene.commands.report.command",
        "write report.html for a finished run: report DIR",
    ),
    "data": (
        "gradgene.commands.data.command",
        "a data set: data inspect PATH, data validate experiment=..., data fetch OUT.h5ad",
    ),
    "benchmark": ("gradgene.commands.benchmark.command", "measure speed, memory and truth"),
    "query": ("gradgene.commands.query.command", "look up genes and cells in stored attributions"),
    "completion": (
        "gradgene.commands.completion.command",
        "a script that lets a shell complete by TAB",
    ),
}
# Commands with words and settings of their own, which write at their end and resume nothing; the
# others are composed by Hydra.
_WORDS_ONLY = ("report", "data", "query", "benchmark", "completion")
# What composes a configuration all the same, only to check it: nothing is kept of its output.
_CHECKS = ("data validate",)
# The root configuration of a command, where it is not conf/config.yaml.
_ROOTS = {"pretrain": "pretrain"}
_RUNNER = "gradgene.commands.hydra_run"
# Runs the command in this process, or in several.
_STARTER = "gradgene.commands.run.spawning"


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
    except BaseException as error:
        anew = bool(arguments) and arguments[0] in _WORDS_ONLY
        ending = ending_of(error, "the same command starts from the beginning" if anew else RESUMES)
        if ending.said:
            print(ending.said, file=sys.stderr)
        return ending.code
    return 0


def program() -> NoReturn:
    """Run the command line of this process and end it with the exit code."""
    code = main()
    if SEVERAL in os.environ:
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
        print(general_help({name: line for name, (_, line) in COMMANDS.items()}))
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
            lambda *given: importlib.import_module(_STARTER).run_command(module, *given),
            line.into(nowhere) if nowhere else line,
            root.parent,
            root.stem,
        )


def root_of(command: str) -> Path | None:
    """The root configuration of a command; None for those with words and settings of their own."""
    if command in _WORDS_ONLY:
        return None
    return groups.conf_dir() / f"{_ROOTS.get(command, 'config')}.yaml"
