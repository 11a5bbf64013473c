"""The command line: one module a command, Hydra composes the configuration, the binder checks it.

Nothing here imports torch or Hydra before a command is actually run, so `gradgene --help` is quick.
"""

from __future__ import annotations

from gradgene.commands.line.options import Options

__all__ = ["Options"]
