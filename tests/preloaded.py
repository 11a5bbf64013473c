"""What `tests.forked` imports before it forks: all that a command may need."""

from __future__ import annotations

from importlib import import_module

COMMANDS = (
    *("attribute.stage", "evaluate.stage", "hydra_run", "prune.stage", "report.command"),
    *("run.spawning", "study", "train.pretrain", "train.stage"),
)
for name in (*(f"gradgene.commands.{command}" for command in COMMANDS), "tests.forked"):
    import_module(name)
import_module("tests.planted")
