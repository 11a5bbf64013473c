"""The help texts, written for somebody who has cells but has never seen Hydra."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from gradgene.commands.config.groups import GROUPS, PLUGINS, describe, groups_of
from gradgene.commands.line.options import flags_of

__all__ = ["command_help", "general_help"]

EXAMPLES = (
    ("gradgene study experiment=demo", "700 real cells, minutes on a laptop"),
    ("gradgene study -m experiment=kang_ifnb study.seed=0,1,2", "a sweep: one folder a seed"),
    (
        "gradgene study -m sweep=seeds experiment=kang_ifnb hydra/launcher=joblib "
        "hydra.launcher.n_jobs=2",
        "the same by a leaf of sweep=, two jobs at once",
    ),
    ("gradgene report runs/kang_ifnb/*", "join the runs of a sweep in one table"),
    (
        "gradgene study experiment=own_data data.path=my.h5ad data.phenotypes=[disease,cell_type] "
        "study.target=disease study.input=case study.baseline=control",
        "your own cells",
    ),
    (
        "gradgene pretrain study.name=atlas 'data.path=cells/*.h5ad' study.donor=donor_id "
        "data.phenotypes=[cell_type,tissue,disease]",
        "learn from masked genes and labels of many files",
    ),
    (
        "gradgene train experiment=kang_ifnb model=pretrained model.path=runs/kang_pretrain",
        "fine-tune what was pretrained",
    ),
    (
        "gradgene evaluate experiment=demo evaluation=full",
        "faithfulness, sanity, stability and interactions of a finished study",
    ),
    ("gradgene report runs/demo", "write report.html again"),
    ("gradgene data inspect my.h5ad", "labels, donors and possible contrasts of a file"),
    (
        'gradgene data fetch cells.h5ad "disease=Alzheimer disease,normal" tissue_general=brain',
        "5,000 cells from CELLxGENE Census",
    ),
    ("gradgene query add runs/kang_ifnb store=scores", "keep the scores of a run's cells"),
    ("gradgene query cells genes=ISG15,IFI6 store=scores", "the cells that these genes speak for"),
    ("gradgene benchmark data cells=100000", "how fast cells are read here, in how much memory"),
    ("gradgene benchmark training model=small", "cells a second, against transformers.Trainer"),
)
#: What options do; `flags_of` says which a command heeds.
OPTIONS = (
    ("-m", "sweep: run every combination of comma-separated values"),
    ("--cfg job", "print the composed configuration and stop"),
    ("--resolve", "with --cfg: fill in what refers to other keys"),
    ("--config-dir DIR", "also look for leaves in DIR, e.g. DIR/experiment/mine.yaml"),
    ("--dry-run", "check configuration and data, estimate time and memory, stop"),
    ("--wandb", "with report: log finished runs to Weights & Biases, with a dashboard"),
)
GENERAL = """\
gradgene: which genes made a single-cell model call a cell diseased?

For anyone with single-cell data (.h5ad, .zarr) of two labels, say patients and controls. It
trains a model to tell the labels apart, scores the genes the model relied on, removes them to
check that it did, and writes a table of genes and a report.

start here
  gradgene study experiment=demo     a whole study of 700 bundled cells: minutes on a laptop
  gradgene data inspect my.h5ad      your own cells: which labels there are, what can be compared
  gradgene study experiment=own_data data.path=my.h5ad data.phenotypes=[disease,cell_type] \\
    study.target=disease study.input=case study.baseline=control --dry-run
                                     what that study would do, in how much time and memory

commands
{commands}

then
  gradgene study --help              the settings by groups, sweeps, options, examples
  gradgene COMMAND --help            the same of another command
  gradgene completion bash           completion by TAB: eval "$(gradgene completion bash)"
  gradgene --version"""
#: How settings are written, for the commands that have groups.
SETTINGS = """\
settings
  GROUP=LEAF          choose one of the leaves below: model=small
  KEY=VALUE           change one value: study.seed=1  data.phenotypes=[disease,sex]
  -m KEY=A,B GROUP=X,Y
                      a sweep: every combination in its own folder; `gradgene report` joins them
  --cfg job           shows every key there is, with its value"""


def general_help(commands: Mapping[str, str]) -> str:
    """Text of `gradgene --help`, one screen: what it is, and `commands` as `{name: line}`."""
    return GENERAL.format(commands="\n".join(_rows(list(commands.items()))))


def command_help(name: str, line: str, module: str, root: Path | None) -> str:
    """Text of `gradgene NAME --help`.

    Parameters
    ----------
    name, line
        The command and what it does, in one line.
    module
        Dotted name of its module, whose docstring is shown (read, not imported: torch is slow).
    root
        Root configuration, whose groups and their leaves are listed, or None for a command without
        configuration.
    """
    usage = "[GROUP=LEAF ...] [KEY=VALUE ...] [options]" if root else "[WORD ...] [KEY=VALUE ...]"
    text = [f"gradgene {name}: {line}", "", f"usage: gradgene {name} {usage}"]
    docstring = _docstring(module)
    if docstring:
        text += ["", docstring]
    if root:
        text += ["", SETTINGS, "", "groups and their leaves"]
        for group, leaves in groups_of(root).items():
            text += ["", f"{group}=  {GROUPS.get(group, '')}".rstrip()]
            said = {leaf: describe(file) for leaf, file in leaves.items()}
            text += _rows(sorted({**said, **PLUGINS.get(group, {})}.items()))
    examples = [e for e in EXAMPLES if e[0].split()[1] == name]
    if examples:
        text += ["", "examples", *(f"  {example}\n      {what}" for example, what in examples)]
    flags = {*flags_of(name, configured=root is not None)}
    options = [(option, what) for option, what in OPTIONS if option.split()[0] in flags]
    return "\n".join([*text, "", "options", *_rows([*options, ("--help", "this text")])])


def _docstring(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


def _rows(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name.ljust(width)}  {text}".rstrip() for name, text in rows]
