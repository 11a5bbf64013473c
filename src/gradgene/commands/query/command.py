"""Look up genes and cells in a store of attributions, over runs and data sets.

query add RUN... store=DIR [method=NAME] [replace=true]
    append finished runs that were attributed with attribution.save=pairs: one row an input cell,
    the mean over its pairs of the importance that makes the run's gene table; method= names one of
    study.compare instead of the main method
query info store=DIR
    the parts of the store: cells, genes, and what they come from
query cells genes=ISG15,IFI6 store=DIR [n=20] [columns=cell_type,donor_id] [out=FILE]
    cells with the highest weighted mean of the genes; out= (.csv or .parquet) gets all cells
query hits genes=ISG15,IFI6 sample=donor_id label=disease store=DIR [share=0.1] [group=cell_type]
        [pooled=true] [min_cells=25] [min_samples=3] [permutations=9999] [seed=0] [out=FILE]
    hits are the best 10 % of the cells of each part (and label of group=): their share in every
    sample, and labels compared with samples as replicates; pooled=true takes all parts together;
    out= gets the table of samples
query drop PART... store=DIR
    remove parts

cells and hits also take
    weights=1,0.5                 one a gene, negative for genes that speak against
    where.cell_type=B cell,NK     only cells with one of these labels (commas without a space)
    genes=FILE.gmt set=NAME       a set of a GMT file; genes that no part has count as missing
    parts=KEY,KEY                 only these parts: scores of different models have no common unit
    missing=skip                  count unknown genes as missing instead of refusing them
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from rich.console import Console
from rich.table import Table

from gradgene.commands.line.options import Options, split_list
from gradgene.errors import ConfigError, OutputError, closest
from gradgene.genes.gene_sets import GeneSets
from gradgene.store import AttributionStore, CellScores, HitRules, atomic_path, write_parquet

__all__ = ["call"]

#: Settings of an action, besides `where.<column>`.
GENES = ("store", "genes", "set", "weights", "parts", "missing", "out")
SETTINGS = {
    "info": ("store",),
    "add": ("store", "method", "replace"),
    "drop": ("store",),
    "cells": (*GENES, "n", "columns"),
    "hits": (
        *GENES,
        *("sample", "label", "share", "group", "pooled"),
        *("min_cells", "min_samples", "permutations", "seed"),
    ),
}
EXAMPLES = {
    "info": "gradgene query info store=DIR",
    "add": "gradgene query add runs/demo store=DIR",
    "drop": "gradgene query drop PART store=DIR",
    "cells": "gradgene query cells genes=ISG15,IFI6 store=DIR",
    "hits": "gradgene query hits genes=ISG15,IFI6 sample=donor_id label=disease store=DIR",
}
#: Columns shown of a table; the others are in the file of out=.
SHOWN_COLUMNS = 9
#: Loaded when asked for: only adding needs what knows the methods.
ADDING = "gradgene.commands.query.add"


def call(options: Options) -> None:
    """Do what the first word says with the words and settings that follow.

    Raises
    ------
    ConfigError
        For an unknown action, or words or settings that it does not take.
    """
    action, *words = options.words or ("",)
    if action not in SETTINGS:
        raise ConfigError(
            "needs an action",
            where="gradgene query",
            expected=f"one of {closest(action, SETTINGS)}",
            found=action or None,
            fix=EXAMPLES["cells"],
        )
    takes_words = action in ("add", "drop")
    if bool(words) != takes_words:
        what = "RUN" if action == "add" else "PART"
        raise ConfigError(
            f"needs a {what}" if takes_words else "takes no further words",
            where=f"gradgene query {action}",
            found=" ".join(words) or None,
            fix=EXAMPLES[action],
        )
    given = read_settings(action, options.overrides)
    store = AttributionStore(given["store"])
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if action == "info":
        show(console, store.info(), f"{len(store.parts)} parts of {store.folder}")
    elif action == "add":
        replace = _flag(given, "replace")
        importlib.import_module(ADDING).add(console, store, words, given.get("method"), replace)
    elif action == "drop":
        for key in words:
            store.drop(key)
            console.print(f"dropped part {key}")
    else:
        {"cells": tell_cells, "hits": tell_hits}[action](console, store, given)


def read_settings(action: str, settings: Sequence[str]) -> dict[str, str]:
    """The `key=value` words of an action.

    Raises
    ------
    ConfigError
        For a key that is unknown or given twice, a value that is empty, or no store.
    """
    given: dict[str, str] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        known = SETTINGS[action]
        filters = key.startswith("where.") and "genes" in known
        if key not in known and not filters:
            raise ConfigError(
                f"no such setting of `gradgene query {action}`",
                where=key,
                expected=f"one of {closest(key, known, n=len(known))}"
                + (" or 'where.COLUMN'" if "genes" in known else ""),
            )
        if key in given or not value.strip():
            raise ConfigError(
                "is given twice" if key in given else "has no value",
                where=key,
                fix=f"write {key}=VALUE once",
            )
        given[key] = value.strip()
    for key in ("store", "genes", "sample", "label"):
        if key in SETTINGS[action] and key not in given:
            raise ConfigError("is missing", where=key, fix=EXAMPLES[action])
    return given


def tell_cells(console: Console, store: AttributionStore, given: Mapping[str, str]) -> None:
    """Print the best cells; write all cells to `out`."""
    n = int(_number(given, "n", 20, int))
    write = _writer(given)
    columns = split_list(given["columns"]) if "columns" in given else None
    scores = _ask(store, given, columns)
    top = scores.top(n)
    tell_coverage(console, scores)
    tell_units(console, store, scores)
    show(console, top, f"best {len(top)} of {len(scores)} cells")
    write(console, scores.cells)


def tell_hits(console: Console, store: AttributionStore, given: Mapping[str, str]) -> None:
    """Print hit fractions by label; write those of all samples to `out`."""
    rules = HitRules(
        min_cells=int(_number(given, "min_cells", 25, int)),
        min_samples=int(_number(given, "min_samples", 3, int)),
        n_permutations=int(_number(given, "permutations", 9999, int)),
        seed=int(_number(given, "seed", 0, int)),
    )
    share, group = _number(given, "share", 0.1, float), given.get("group")
    pooled, write = _flag(given, "pooled"), _writer(given)
    sample, label = given["sample"], given["label"]
    columns = [*dict.fromkeys([sample, label, *([group] if group else [])])]
    scores = _ask(store, given, columns)
    hits = scores.hits(sample, label, share=share, group=group, pooled=pooled, rules=rules)
    tell_coverage(console, scores)
    if pooled:
        tell_units(console, store, scores)
    shown = hits.samples.drop(columns="data")
    show(console, shown, f"hits by {sample}: the best {share:.0%} of cells")
    show(console, hits.labels, f"{label}: mean over {sample}, permutation test of each label")
    write(console, hits.samples)


def tell_coverage(console: Console, scores: CellScores) -> None:
    """Say which parts lack genes of the query, and which have none of them."""
    for row in scores.coverage.to_dict("records"):
        if row["missing"]:
            names = str(row["missing"])
            lacks = names if len(names) <= 80 else f"{names[:80]} …"
            what = f"{row['coverage']:.0%} of the weight" if row["coverage"] else "left out"
            console.print(f"part {row['part']}: {what}, lacks {lacks}", style="yellow")


def tell_units(console: Console, store: AttributionStore, scores: CellScores) -> None:
    """Say so if scores of several methods, importances, models or targets are compared."""
    info = store.info()
    asked = info[info["part"].isin(scores.coverage["part"])]
    differ = [c for c in ("model", "method", "importance", "target") if asked[c].nunique() > 1]
    if differ:
        console.print(
            f"parts differ in {', '.join(differ)}: their scores have no common unit; "
            "choose some with parts=KEY,KEY (gradgene query info lists them)",
            style="yellow",
        )


def show(console: Console, table: pd.DataFrame, title: str) -> None:
    """Print a table."""
    shown = Table(title=title)
    columns = table.columns[:SHOWN_COLUMNS] if len(table.columns) > 12 else table.columns
    for column in columns:
        shown.add_column(str(column), overflow="fold")
    for row in table[columns].itertuples(index=False):
        shown.add_row(*(_spell(value) for value in row))
    console.print(shown)
    if len(columns) < len(table.columns):
        left = ", ".join(str(c) for c in table.columns[len(columns) :])
        console.print(f"not shown: {left}", style="dim")


def _spell(value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _ask(
    store: AttributionStore, given: Mapping[str, str], columns: Sequence[str] | None
) -> CellScores:
    genes = gene_list(given)
    weights = None
    if "weights" in given:
        weights = [
            float(_number({"weights": text}, "weights", 1.0, float))
            for text in given["weights"].split(",")
        ]
    missing: dict[str, Literal["error", "skip"]] = {"error": "error", "skip": "skip"}
    choice = given.get("missing", "skip" if "set" in given else "error")
    if choice not in missing:
        raise ConfigError("no such choice", where="missing", expected="error or skip", found=choice)
    where = {
        key.removeprefix("where."): split_list(value)
        for key, value in given.items()
        if key.startswith("where.")
    }
    parts = split_list(given["parts"]) if "parts" in given else None
    return store.query(
        genes, weights, where=where, columns=columns, missing=missing[choice], parts=parts
    )


def gene_list(given: Mapping[str, str]) -> tuple[str, ...]:
    """The genes of `genes=`, or of the set `set=` in the GMT file that `genes=` names.

    Raises
    ------
    ConfigError
        For a file without `set=` or the other way round, or a set that is not in the file.
    """
    text = given["genes"]
    is_file = text.removesuffix(".gz").endswith(".gmt")
    if is_file != ("set" in given):
        raise ConfigError(
            "a GMT file and the name of a set go together",
            where="genes, set",
            fix="genes=hallmark.gmt set=NAME",
        )
    if not is_file:
        return tuple(gene.strip() for gene in text.split(",") if gene.strip())
    if "weights" in given:
        raise ConfigError("are only for genes listed one by one", where="weights")
    sets = GeneSets.read(Path(text).expanduser())
    if given["set"] not in sets.sets:
        expected = f"one of {closest(given['set'], sets.sets)}"
        raise ConfigError(f"{text} has no such set", where=f"set={given['set']}", expected=expected)
    return tuple(sorted(sets.sets[given["set"]]))


def _number(
    given: Mapping[str, str], key: str, default: float, kind: Callable[[str], float]
) -> float:
    if key not in given:
        return default
    try:
        return kind(given[key])
    except ValueError as error:
        what = "whole number" if kind is int else "number"
        raise ConfigError(f"is no {what}", where=key, found=given[key]) from error


def _flag(given: Mapping[str, str], key: str) -> bool:
    value = given.get(key, "false").lower()
    if value not in ("true", "false"):
        raise ConfigError("no such choice", where=key, expected="true or false", found=given[key])
    return value == "true"


def _writer(given: Mapping[str, str]) -> Callable[[Console, pd.DataFrame], None]:
    """What writes a table to `out`, whose name is checked before the work."""
    if "out" not in given:
        return lambda console, table: None
    file = Path(given["out"]).expanduser()
    if file.suffix not in (".csv", ".parquet"):
        raise ConfigError(
            "is neither CSV nor parquet", where="out", found=file.name, fix="out=cells.csv"
        )
    if file.is_dir():
        raise OutputError("is a folder", where=f"out={file}")

    def write(console: Console, table: pd.DataFrame) -> None:
        if file.suffix == ".parquet":
            write_parquet(table, file)
        else:
            with atomic_path(file) as temporary:
                table.to_csv(temporary, index=False)
        console.print(f"written: {file} ({len(table)} rows)")

    return write
