"""Print a script that lets a shell complete gradgene's command lines by TAB.

completion bash      for this shell: eval "$(gradgene completion bash)"
                     for good: that line in ~/.bashrc
completion zsh       eval "$(gradgene completion zsh)", for good in ~/.zshrc below compinit
completion fish      gradgene completion fish | source
                     for good: gradgene completion fish > ~/.config/fish/completions/gradgene.fish

Completed are commands, options, groups with their leaves (attribution=<TAB>, also after a comma),
keys (study.<TAB>) and paths (data.path=<TAB>). Everything stands in the script, so that nothing is
started to complete a word; print it again after an update.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from gradgene.commands.completion.scripts import SHELLS, Words
from gradgene.commands.config import groups
from gradgene.commands.line.options import Options, flags_of
from gradgene.commands.main import COMMANDS, root_of
from gradgene.errors import ConfigError, closest

__all__ = ["WORDS", "call", "script", "words_of"]

#: What may follow a command that takes words; paths follow those in `PATHS_AFTER` as well.
WORDS = {
    "benchmark": ("attribution", "data", "pruning", "training", "truth"),
    "completion": ("bash", "fish", "zsh"),
    "data": ("fetch", "inspect", "validate"),
    "query": ("add", "cells", "drop", "hits", "info"),
}
PATHS_AFTER = ("report", "data", "query")
#: Commands that have settings although they also take words: which command's they are.
SETTINGS_OF = {"data": "study"}


def call(options: Options) -> None:
    """Print the script for the shell named by the one word.

    Raises
    ------
    ConfigError
        For another word, or none.
    """
    shell = " ".join(options.words)
    if shell not in SHELLS or options.overrides:
        raise ConfigError(
            "needs the name of a shell",
            where="gradgene completion",
            expected=f"one of {closest(shell, SHELLS)}",
            found=" ".join([*options.words, *options.overrides]) or None,
            fix='eval "$(gradgene completion bash)"',
        )
    print(script(shell))


def script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish", made from conf/ and the commands."""
    return SHELLS[shell]({name: words_of(name) for name in COMMANDS})


def words_of(command: str) -> Words:
    """What may stand in a line of `command`."""
    root = root_of(SETTINGS_OF.get(command, command))
    leaves: dict[str, tuple[str, ...]] = {}
    keys: list[str] = []
    if root is not None:
        found = groups.groups_of(root)
        leaves = {g: tuple(sorted({*found[g], *groups.PLUGINS.get(g, ())})) for g in found}
        keys = sorted({*_root_keys(root), *_leaf_keys(root.parent, found)})
    options = flags_of(command, configured=root_of(command) is not None)
    return Words(
        what=COMMANDS[command][1],
        options=options,
        words=WORDS.get(command, ()),
        leaves=leaves,
        keys=tuple(keys),
        paths=command in PATHS_AFTER,
    )


def _root_keys(root: Path) -> Iterable[str]:
    """Keys that a root configuration states itself, such as `study.target`."""
    sections = yaml.safe_load(root.read_text(encoding="utf-8"))
    return _dotted({k: v for k, v in sections.items() if k not in ("defaults", "hydra")})


def _leaf_keys(conf: Path, found: Iterable[str]) -> Iterable[str]:
    """Keys of the leaves of groups that fill a section of their own, such as `pairs.max_pairs`."""
    for group in found:
        for file in (conf / group).rglob("*.yaml"):  # also what leaves only have in common
            text = file.read_text(encoding="utf-8")
            if "@package _global_" not in text and "/" not in group:
                yield from _dotted({group: yaml.safe_load(text)})


def _dotted(node: Any, where: str = "") -> Iterable[str]:
    """Dotted names of everything below a mapping that is not itself a mapping."""
    if not isinstance(node, dict) or (where and not node):
        if where:
            yield where
        return
    for key, value in node.items():
        if not str(key).startswith("_") and key != "defaults":
            yield from _dotted(value, f"{where}.{key}" if where else str(key))
