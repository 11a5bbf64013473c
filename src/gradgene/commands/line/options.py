"""The words of a command line, sorted before Hydra sees any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradgene.commands.sweep.planned import Planned
from gradgene.errors import ConfigError, closest

__all__ = ["CommandLine", "Options", "flags_of", "read_line", "split_list"]

# Hydra's own flags that we let through, and whether each takes a value.
_HYDRA_FLAGS = {
    "-m": False,
    "--multirun": False,
    "-r": False,
    "--run": False,
    "--resolve": False,
    "-i": False,
    "--info": False,
    "-c": True,
    "--cfg": True,
    "-p": True,
    "--package": True,
    "-cd": True,
    "--config-dir": True,
    "-cn": True,
    "--config-name": True,
}
_CHOICES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
}
_LONG = {
    "-m": "--multirun",
    "-r": "--run",
    "-i": "--info",
    "-c": "--cfg",
    "-p": "--package",
    "-cd": "--config-dir",
    "-cn": "--config-name",
}
_OWN_FLAGS = ("--dry-run", "--wandb", "--help")
# Our flags that only some commands heed.
_FLAG_COMMANDS = {
    "--dry-run": ("study", "pretrain", "train", "attribute", "prune", "evaluate"),
    "--wandb": ("report",),
}


@dataclass(frozen=True)
class Options:
    """What the user asked for besides the configuration.

    Attributes
    ----------
    command
        First word of the line, for example `study`.
    words
        Positional words, for example a path: no `=` in them and no leading `-`.
    dry_run
        `--dry-run`: say what would be done and stop.
    wandb
        `--wandb` (report only): log the finished runs to Weights & Biases, with a dashboard.
    overrides
        Hydra overrides (`key=value`) in the order given.
    planned
        What the jobs of this sweep have planned, for a job of a sweep's dry run.
    """

    command: str
    words: tuple[str, ...] = ()
    dry_run: bool = False
    wandb: bool = False
    overrides: tuple[str, ...] = ()
    planned: Planned | None = None


@dataclass(frozen=True)
class CommandLine:
    """A sorted command line: our options, Hydra's flags, and whether help was asked for."""

    options: Options
    flags: tuple[str, ...] = ()
    help: bool = False

    @property
    def multirun(self) -> bool:
        """Whether the line asks for a sweep."""
        return "--multirun" in self.flags

    @property
    def config_dir(self) -> str | None:
        """The user's own config directory (`--config-dir`), if one was given."""
        found = [f.partition("=")[2] for f in self.flags if f.startswith("--config-dir=")]
        return found[-1] if found else None

    def into(self, folder: str) -> CommandLine:
        """The same line with `folder` as Hydra's output directory, whatever the line says."""
        there = (f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}")
        overrides = (*self.options.overrides, *there)
        return replace(self, options=replace(self.options, overrides=overrides))


def read_line(command: str, arguments: Sequence[str]) -> CommandLine:
    """Sort the arguments that follow `command`; an unknown flag raises `ConfigError`."""
    words: list[str] = []
    overrides: list[str] = []
    flags: list[str] = []
    own: set[str] = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("-h", "--help"):
            own.add("--help")
        elif argument in _OWN_FLAGS:
            own.add(argument)
        elif argument.startswith("-"):
            flags.append(_hydra_flag(argument, rest))
        else:
            (words if _is_word(argument) else overrides).append(argument)
    for flag, commands in _FLAG_COMMANDS.items():
        if flag in own and command not in commands:
            raise ConfigError(
                f"has no effect on `gradgene {command}`",
                where=flag,
                expected=f"with {' or '.join(commands)} only",
            )
    options = Options(
        command=command,
        words=tuple(words),
        dry_run="--dry-run" in own,
        wandb="--wandb" in own,
        overrides=tuple(overrides),
    )
    return CommandLine(options, tuple(flags), help="--help" in own)


def flags_of(command: str, *, configured: bool = True) -> tuple[str, ...]:
    """The options that a command heeds: Hydra's for commands with a configuration, and ours."""
    hydra = tuple(_HYDRA_FLAGS) if configured else ()
    return (*hydra, *(f for f in _OWN_FLAGS if command in _FLAG_COMMANDS.get(f, (command,))))


def split_list(value: str) -> tuple[str, ...]:
    """Distinct pieces between commas without a space behind them: labels hold commas with one."""
    pieces: list[str] = []
    for piece in value.split(","):
        if pieces and piece.startswith(" "):
            pieces[-1] += f",{piece}"
        else:
            pieces.append(piece)
    return tuple(dict.fromkeys(p.strip() for p in pieces if p.strip()))


def _is_word(argument: str) -> bool:
    """Tell a positional word from an override.

    A sweep names its directories by overrides (`runs/demo/attribution=gim`), so an existing path
    with a separator before its first `=` is a word too.
    """
    key, equals, _ = argument.partition("=")
    if not equals:
        return not argument.startswith(("~", "+"))
    return "/" in key and Path(argument).exists()


def _hydra_flag(argument: str, rest: list[str]) -> str:
    """Return one of Hydra's flags as `--name` or `--name=value`, taking its value off `rest`."""
    name, equals, value = argument.partition("=")
    if name not in _HYDRA_FLAGS:
        raise ConfigError(
            "unknown option",
            where=name,
            expected=closest(name, [f for f in (*_OWN_FLAGS, *_HYDRA_FLAGS) if len(f) > 3]),
            fix="`gradgene --help` lists the options",
        )
    long = _LONG.get(name, name)
    if _HYDRA_FLAGS[name] and not equals:
        if not rest or rest[0].startswith("-"):
            raise ConfigError("needs a value", where=long, fix=f"write {long}=VALUE")
        value, equals = rest.pop(0), "="
    if long == "--info" and not equals:
        # Its value may be left out, and then Hydra would swallow the next override.
        value, equals = rest.pop(0) if rest and rest[0] in _CHOICES["--info"] else "all", "="
    if long in _CHOICES and value not in _CHOICES[long]:
        raise ConfigError(
            "no such choice", where=long, expected=closest(value, _CHOICES[long]), found=repr(value)
        )
    return f"{long}={value}" if equals else long
