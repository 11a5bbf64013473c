"""`gradgene data validate`: would a study with this configuration accept these cells?"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradgene.commands.attribute.stage import plan_pairs
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.study import check_choices
from gradgene.lit import CellDataModule
from gradgene.pairs import PairPlan

__all__ = ["validate"]


def validate(cfg: DictConfig, folder: Path) -> None:
    """Do everything that a study does before it trains, and say what was found.

    Parameters
    ----------
    cfg
        The resolved, bound configuration of a study.
    folder
        A place for the workspace; nothing of use is written there.

    Raises
    ------
    GradgeneError
        The first thing that the study would refuse.
    """
    with Workspace(cfg, folder) as work:
        check_choices(work)
        plans = plan_pairs(work)
        console = work.console
        tell_cells(console, work.data)
        for name, plan in plans.items():
            tell_pairs(console, name, plan)
        console.print("valid: a study with this configuration would start training")


def tell_cells(console: Console, data: CellDataModule) -> None:
    """Print what the cells hold and how they are split."""
    cells = data.part("train")
    schema = data.schema
    console.print(f"cells: {data.path}", highlight=False, markup=False)
    console.print(f"columns: {', '.join(schema.phenotypes)}; donor {schema.donor or '(none)'}")
    console.print(f"values: {schema.values}; {len(cells.genes)} genes for the model")
    for reason, count in cells.dropped.items():
        console.print(f"left out: {count} cells ({reason})", style="yellow", markup=False)
    for note in cells.notes:
        console.print(note, style="yellow", markup=False)
    table = Table("part", data.target, "cells", "donors")
    for row in data.table().to_dict("records"):
        donors = str(row["n_donors"]) if schema.donor else ""
        table.add_row(row["split"], escape(row["label"]), str(row["n_cells"]), donors)
    console.print(table)


def tell_pairs(console: Console, name: str, plan: PairPlan) -> None:
    """Print how many pairs one side of the split gives, and which input cells find no partner."""
    strata = plan.table["stratum"].nunique()
    console.print(f"pairs of {name} cells: {len(plan)} in {strata} matched groups")
    if plan.n_skipped:
        worst = plan.skipped.sort_values("n_cells", ascending=False).iloc[0]
        console.print(
            f"{plan.n_skipped} input cells have no partner, most often: {worst.reason}",
            style="yellow",
            markup=False,
        )
