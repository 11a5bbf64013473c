"""`gradgene data fetch`: cells of chosen labels from CELLxGENE Census into one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
from rich.table import Table

from gradgene.cells.census import CensusQuery, fetch_cells
from gradgene.commands.line.console import Console
from gradgene.commands.line.options import split_list
from gradgene.errors import ConfigError, OutputError
from gradgene.store import atomic_path

__all__ = ["call", "read_query"]

USAGE = 'gradgene data fetch cells.h5ad "disease=Alzheimer disease,normal" tissue_general=brain'


def call(words: Sequence[str], settings: Sequence[str]) -> None:
    """Write the cells that `settings` (`COLUMN=LABEL,LABEL`, `n=`, `seed=`, `census=`) describe.

    Raises
    ------
    ConfigError, OutputError, CellsError
        For words that make no query, a file that exists or cannot be written, and as `fetch_cells`.
    """
    if len(words) != 1 or not words[0].endswith(".h5ad"):
        raise ConfigError(
            "needs one file to write",
            where="gradgene data fetch",
            expected="a name ending in .h5ad",
            found=" ".join(words) or None,
            fix=USAGE,
        )
    file, query = Path(words[0]).expanduser(), read_query(settings)
    if file.exists():
        raise OutputError(
            "exists already and is not overwritten",
            where=str(file),
            fix="choose another name, or remove the file",
        )
    console = Console(soft_wrap=True, markup=False)  # labels may hold brackets
    with atomic_path(file) as temporary:
        temporary.touch()  # a folder that cannot be written to is known before the download
        with console.status(f"fetching {query.n} cells from CELLxGENE Census ({query.census})"):
            cells = fetch_cells(query)
        cells.write_h5ad(temporary, compression="gzip")
    tell(console, cells, query)
    console.print(f"written: {file}\nlook at it: gradgene data inspect {file}")


def read_query(settings: Sequence[str]) -> CensusQuery:
    """Make a query of `key=value` words.

    Labels are separated by commas without a space behind them, since labels hold commas with one
    ("central memory CD4-positive, alpha-beta T cell").

    Raises
    ------
    ConfigError
        For a key given twice, an empty value, or a number that is none.
    """
    given: dict[str, str] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key in given or not value.strip():
            raise ConfigError(
                "is given twice" if key in given else "has no value",
                where=key,
                fix=f"write {key}=LABEL or {key}=LABEL,LABEL once",
            )
        given[key] = value
    numbers = {key: _number(key, given.pop(key)) for key in ("n", "seed") if key in given}
    census = given.pop("census", "stable")
    labels = {column: split_list(value) for column, value in given.items()}
    return CensusQuery(labels, census=census, **numbers)


def _number(key: str, value: str) -> int:
    if not value.isdecimal():
        raise ConfigError("is no whole number", where=key, expected="0 or more", found=value)
    return int(value)


def tell(console: Console, cells: ad.AnnData, query: CensusQuery) -> None:
    """Print how many cells and donors of each label were drawn."""
    table = Table(query.balanced, "cells", "donors", "data sets")
    for label in query.labels[query.balanced]:
        mine = cells.obs[cells.obs[query.balanced] == label]
        table.add_row(
            label,
            *(str(n) for n in (len(mine), mine.donor_id.nunique(), mine.dataset_id.nunique())),
        )
    console.print(table)
    console.print(f"release {cells.uns['census']['version']}, {cells.n_vars} genes, raw counts")
    if cells.n_obs < query.n:
        console.print(
            f"the release has {cells.n_obs} such cells, fewer than {query.n}", style="yellow"
        )
