"""Look at a data set, check it against a configuration, or get one.

data inspect PATH... [donor=COLUMN] [genes=TABLE.tsv]
    shape, kind of values, gene ids, labels with their cells and donors, and which contrasts have
    enough donors; PATH is an .h5ad file, a .zarr folder or a pattern in quotes
data validate experiment=... data.path=...
    everything `study` would refuse about the cells, in seconds and without writing anything
data fetch OUT.h5ad COLUMN=LABEL[,LABEL]... [n=5000] [seed=0] [census=stable]
    cells of these labels from CELLxGENE Census (needs the network and the extra gradgene[census]):
    as many of each label of the first column that names several, equally over donors; census=
    names a release (2025-01-30) or a local SOMA store
"""

from __future__ import annotations

import importlib
from pathlib import Path

from omegaconf import DictConfig

from gradgene.commands.line.options import Options
from gradgene.errors import ConfigError, closest

__all__ = ["call", "run"]

#: Module of each action, loaded when asked for: `inspect` needs neither torch nor the Census.
ACTIONS = {
    "inspect": "gradgene.commands.data.inspect",
    "validate": "gradgene.commands.data.validate",
    "fetch": "gradgene.commands.data.fetch",
}


def call(options: Options) -> None:
    """Do what the first word says with the words and settings that follow.

    Raises
    ------
    ConfigError
        For an unknown action, or words where a configuration is expected.
    """
    action, *words = options.words or ("",)
    if action not in ACTIONS:
        raise ConfigError(
            "needs an action",
            where="gradgene data",
            expected=f"one of {closest(action, ACTIONS)}",
            found=action or None,
            fix="gradgene data inspect my.h5ad",
        )
    if action == "validate":  # without further words it is composed by Hydra and comes to `run`
        raise ConfigError(
            "takes no further words",
            where="gradgene data validate",
            expected="the settings of a study",
            found=" ".join(words),
            fix=f"gradgene data validate experiment=own_data data.path={words[0]} ...",
        )
    importlib.import_module(ACTIONS[action]).call(words, options.overrides)


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Check the cells against a composed configuration; `output_dir` is thrown away."""
    importlib.import_module(ACTIONS["validate"]).validate(cfg, output_dir)
