"""The help texts, written for somebody who has cells but has never seen Hydra."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path

from gradgene.commands.groups import composed_groups, describe, groups

__all__ = ["command_help", "exists", "general_help"]

EXAMPLES = (
    ("gradgene study experiment=demo", "700 real cells, minutes on a laptop"),
    ("gradgene study -m experiment=kang_ifnb study.seed=0,1,2", "a sweep: one folder a seed"),
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
OPTIONS = (
    ("-m", "sweep: run every combination of comma-separated values"),
    ("--cfg job", "print the composed configuration and stop"),
    ("--resolve", "with --cfg: fill in what refers to other keys"),
    ("--config-dir DIR", "also look for leaves in DIR, e.g. DIR/experiment/mine.yaml"),
    ("--dry-run", "check configuration and data, say what would be done, stop"),
    ("--wandb", "with report: log finished runs to Weights & Biases, with a dashboard"),
    ("--help, --version", ""),
)


def general_help(commands: Mapping[str, str], conf: Path) -> str:
    """Text of `gradgene --help`: commands (`{name: line}`), groups with their leaves, examples."""
    group_rows = [(name, " ".join(leaves)) for name, leaves in groups(conf).items()]
    return "\n".join(
        [
            "gradgene: which genes made a single-cell model call a cell diseased?",
            "",
            "usage: gradgene COMMAND [GROUP=LEAF ...] [KEY=VALUE ...] [options]",
            "",
            "commands (`gradgene COMMAND --help` says more)",
            *_rows(list(commands.items())),
            "",
            "config groups and their leaves: GROUP=LEAF chooses one, KEY=VALUE changes one value",
            *(_rows(group_rows) or ["  (none)"]),
            "",
            "examples",
            *(f"  {line}\n      {what}" for line, what in EXAMPLES),
            "",
            "options",
            *_rows(list(OPTIONS)),
        ]
    )


def command_help(name: str, line: str, module: str, root: Path | None) -> str:
    """Text of `gradgene NAME --help`.

    Parameters
    ----------
    name, line
        The command and what it does, in one line.
    module
        Dotted name of its module, whose docstring is shown (read, not imported: torch is slow).
    root
        Root configuration, the leaves of whose groups are listed, or None for a command without
        configuration.
    """
    usage = "[GROUP=LEAF ...] [KEY=VALUE ...] [options]" if root else "[WORD ...] [options]"
    text = [f"gradgene {name}: {line}", "", f"usage: gradgene {name} {usage}"]
    docstring = _docstring(module)
    if docstring:
        text += ["", docstring]
    if root:
        composed = composed_groups(root)
        for group, leaves in groups(root.parent).items():
            if group in composed:
                text += ["", f"{group}="]
                text += _rows([(leaf, describe(file)) for leaf, file in leaves.items()])
    examples = [e for e in EXAMPLES if e[0].split()[1] == name]
    if examples:
        text += ["", "examples", *(f"  {example}\n      {what}" for example, what in examples)]
    return "\n".join([*text, "", "options", *_rows(list(OPTIONS))])


def exists(module: str) -> bool:
    """Whether a command's module is part of this version."""
    return importlib.util.find_spec(module) is not None


def _docstring(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return ast.get_docstring(tree) or ""


def _rows(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name.ljust(width)}  {text}".rstrip() for name, text in rows]
