"""`gradgene data inspect`: what is in a data set, and which contrasts its donors allow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from gradgene.cells.joining import ENSEMBL, strip_version
from gradgene.cells.paths import resolve_paths
from gradgene.commands.data.files import DONOR_NAMES, SCHEMA, FileLook, join_obs, look_at
from gradgene.errors import CellsError, ConfigError, LabelError, closest

__all__ = ["call", "contrasts", "gene_facts"]

#: A contrast needs as many donors of each label: one to hold out and two to learn from.
MIN_DONORS = 3
#: Labels shown of a column, and contrasts of a category over all cells and within cell types.
SHOWN_LABELS, SHOWN_CONTRASTS = 5, 2
SHOWN_FILES = 12


def call(words: Sequence[str], settings: Sequence[str]) -> None:
    """Describe the files that `words` name; `settings` are `donor=COLUMN` and `genes=FILE`.

    Raises
    ------
    ConfigError, CellsError
        For no file, an unknown setting, a file that cannot be read, a column that is not there.
    """
    given = _settings(settings)
    files = [look_at(path, given.get("donor")) for path in _paths(words)]
    obs = join_obs(files)
    donor = _donor(obs, given.get("donor"))
    console = Console(soft_wrap=True, markup=False)  # labels may hold brackets
    for line in [*shapes(files), *gene_facts([f.genes for f in files], given.get("genes"))]:
        console.print(line, highlight=False)
    categories = [c for c in [*SCHEMA, *sorted(set(obs.columns) - set(SCHEMA))] if c in obs.columns]
    categories = [c for c in categories if c != donor]
    console.print(labels_table(obs, categories, donor))
    if donor is None:
        console.print("donors: no column found; name it with donor=COLUMN to see contrasts")
        return
    tell_donors(console, obs, donor, guessed="donor" not in given)
    tell_contrasts(console, contrasts(obs, categories, donor))


def _settings(settings: Sequence[str]) -> dict[str, str]:
    given = dict(s.split("=", 1) for s in settings)
    for key in given:
        if key not in ("donor", "genes"):
            raise ConfigError(
                "no such setting",
                where=key,
                expected="donor=COLUMN or genes=FILE",
                fix="gradgene data inspect my.h5ad donor=patient",
            )
    return given


def _paths(words: Sequence[str]) -> tuple[Path, ...]:
    if not words:
        raise ConfigError(
            "needs a file",
            where="gradgene data inspect",
            expected="one or more .h5ad or .zarr, or a pattern in quotes",
            fix="gradgene data inspect my.h5ad",
        )
    return resolve_paths(words)


def _donor(obs: pd.DataFrame, named: str | None) -> str | None:
    if named is not None:
        if named not in obs.columns:
            raise LabelError(
                f"no obs column {named!r}",
                where="donor",
                expected=f"one of {closest(named, obs.columns, n=30)}",
            )
        return named
    lower = {str(c).lower(): str(c) for c in obs.columns}
    return next((lower[name] for name in DONOR_NAMES if name in lower), None)


def shapes(files: Sequence[FileLook]) -> Iterator[str]:
    """Lines on the size of the data set, of each file, and on the kind of values."""
    n_cells = sum(f.n_cells for f in files)
    if len(files) > 1:
        genes = files[0].genes.unique()
        union = pd.Index(itertools.chain.from_iterable(f.genes for f in files)).nunique()
        shared = len(set(genes).intersection(*(f.genes for f in files[1:])))
        yield f"{len(files)} files: {n_cells} cells; {shared} of {union} gene ids are in every file"
        for file in files[:SHOWN_FILES]:
            yield f"  {file.path}: {file.n_cells} cells x {len(file.genes)} genes"
        if len(files) > SHOWN_FILES:
            yield f"  … and {len(files) - SHOWN_FILES} more files"
    else:
        yield f"{files[0].path}: {n_cells} cells x {len(files[0].genes)} genes"
    kinds: dict[tuple[str, str], int] = {}
    for pair in itertools.chain.from_iterable(f.values.items() for f in files):
        kinds[pair] = kinds.get(pair, 0) + 1
    for (layer, kind), count in kinds.items():
        where = "" if count == len(files) else f" (in {count} of {len(files)} files)"
        yield f"data.layer={layer}: {kind}{where}"


def gene_facts(genes: Sequence[pd.Index], reference: str | None = None) -> Iterator[str]:
    """Lines on the gene ids of all files: what they look like, and how many a reference knows.

    Parameters
    ----------
    genes
        The ids of each file.
    reference
        A tab-separated table with gene ids or symbols in any of its columns.

    Raises
    ------
    CellsError
        If the reference is missing or no table.
    """
    ids = pd.Series(pd.Index(itertools.chain.from_iterable(genes)).unique(), dtype=str)
    plain = ids.map(strip_version)
    ensembl = plain.str.fullmatch(ENSEMBL.pattern)
    versions = int((plain != ids).sum())
    twice = sorted({str(g) for index in genes for g in index[index.duplicated()]})
    kind = "Ensembl ids" if ensembl.mean() > 0.5 else "symbols or other names"
    yield (
        f"genes: {kind} ({', '.join(ids.head(3))} …), {int(ensembl.sum())} of {len(ids)} look "
        f"like Ensembl ids, {versions} with a version"
    )
    if twice:
        yield f"genes: {len(twice)} ids occur more than once in a file: {', '.join(twice[:5])}"
    if versions and plain.nunique() < len(ids):
        yield f"genes: without versions {len(ids) - plain.nunique()} ids fall together"
    if reference is not None:
        known = plain.isin(_reference(reference))
        yield f"genes: {int(known.sum())} of {len(ids)} ({known.mean():.1%}) known in {reference}"
        retired = plain[ensembl & ~known]
        if len(retired):
            yield f"genes: {len(retired)} Ensembl ids not in it, for example retired ones: " + (
                ", ".join(retired.head(5))
            )


def _reference(file: str) -> set[str]:
    try:
        table = pd.read_csv(Path(file).expanduser(), sep="\t", dtype=str)
    except (OSError, ValueError) as error:
        raise CellsError(
            "cannot be read as a table of genes",
            where=f"genes={file}",
            expected="tab-separated text with gene ids or symbols in a column",
            found=str(error),
        ) from error
    return set(pd.unique(table.to_numpy().ravel()))


def labels_table(obs: pd.DataFrame, categories: Sequence[str], donor: str | None) -> Table:
    """One row a column: labels, cells without one, and the most frequent with their donors."""
    table = Table(
        "obs column", "labels", "missing", "most frequent: cells" + "/donors" * bool(donor)
    )
    for name in categories:
        counts = obs[name].value_counts()
        donors = _donors(obs, [name], donor) if donor else pd.Series(dtype=int)
        shown = [
            f"{label} ({n}{f'/{donors.get(label, 0)}' if donor else ''})"
            for label, n in counts.head(SHOWN_LABELS).items()
        ]
        more = [f"and {len(counts) - len(shown)} more"] if len(counts) > len(shown) else []
        missing = int(obs[name].isna().sum())
        table.add_row(name, str(len(counts)), str(missing or ""), ", ".join([*shown, *more]))
    return table


def _donors(obs: pd.DataFrame, columns: list[str], donor: str) -> pd.Series:
    """Number of donors of each label, or combination of labels, of `columns`."""
    seen = obs[[*columns, donor]].dropna().drop_duplicates()
    return seen.groupby(columns, observed=True).size()


def tell_donors(console: Console, obs: pd.DataFrame, donor: str, guessed: bool) -> None:
    """Print the number of donors and of cells a donor."""
    counts = obs[donor].value_counts()
    how = f"{donor!r}{' by its name; another with donor=COLUMN' if guessed else ''}"
    missing = int(obs[donor].isna().sum())
    if counts.empty:
        console.print(f"donors: none in column {how}; {missing} cells without a donor")
        return
    console.print(
        f"donors: {len(counts)} in column {how}; {int(counts.median())} cells a donor (median), "
        f"{int(counts.min())} to {int(counts.max())}"
        + (f"; {missing} cells without a donor" if missing else ""),
        highlight=False,
    )


def contrasts(obs: pd.DataFrame, categories: Sequence[str], donor: str) -> pd.DataFrame:
    """Pairs of labels of one category that at least three donors have each.

    Columns `category, within, label, other, donors, donors_other, cells, cells_other`, one row a
    pair, `within` a cell type or "" for all cells; most donors first within a category.
    """
    rows = []
    for category in categories:
        groups: list[tuple[Any, pd.DataFrame]] = [("", obs)]
        if "cell_type" in categories and category != "cell_type":
            groups += obs.groupby("cell_type", observed=True)
        for within, cells in groups:
            donors = _donors(cells, [category], donor)
            cells_of = cells.loc[cells[donor].notna(), category].value_counts()
            enough = donors[donors >= MIN_DONORS].sort_index()
            rows += [
                (category, str(within), a, b, donors[a], donors[b], cells_of[a], cells_of[b])
                for a, b in itertools.combinations(enough.index, 2)
            ]
    names = "category within label other donors donors_other cells cells_other".split()
    table = pd.DataFrame(rows, columns=names)
    fewest = table[["donors", "donors_other"]].min(axis=1)
    cells_fewest = table[["cells", "cells_other"]].min(axis=1)
    place = table["category"].map({c: i for i, c in enumerate(categories)})
    table = table.assign(place=place, fewest=fewest, cells_fewest=cells_fewest)
    table = table.sort_values(
        ["place", "fewest", "cells_fewest"], ascending=[True, False, False], kind="stable"
    )
    return table[names].reset_index(drop=True)


def tell_contrasts(console: Console, table: pd.DataFrame) -> None:
    """Print the contrasts of most donors of each category, and how many more there are."""
    if table.empty:
        console.print(f"contrasts: no two labels with {MIN_DONORS} donors each")
        return
    shown = Table(
        "category",
        "labels",
        "among",
        "donors",
        "cells",
        title=f"contrasts with at least {MIN_DONORS} donors a label",
    )
    for category, mine in table.groupby("category", sort=False):
        best = mine.groupby(mine["within"] == "", sort=False).head(SHOWN_CONTRASTS)
        for number, row in enumerate(best.itertuples()):
            shown.add_row(
                "" if number else str(category),
                f"{row.label} | {row.other}",
                str(row.within) or "all cells",
                f"{row.donors} | {row.donors_other}",
                f"{row.cells} | {row.cells_other}",
            )
        if len(mine) > len(best):
            shown.add_row("", f"and {len(mine) - len(best)} more")
        shown.add_section()
    console.print(shown)
