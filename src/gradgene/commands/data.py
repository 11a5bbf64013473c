"""`gradgene data inspect PATH`: what is in a cell file."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gradgene.cells import resolve_path
from gradgene.commands.options import Options
from gradgene.errors import CellsError, ConfigError, closest

__all__ = ["call"]

#: Columns with more labels than this are ids or measurements, not phenotypes.
MAX_LABELS = 100


def call(options: Options) -> None:
    """Print shape, value kind and the obs columns with their labels."""
    actions = {"inspect": inspect}
    action, *paths = options.words or ("",)
    if action not in actions or len(paths) != 1:
        raise ConfigError(
            "needs an action and a file",
            where="gradgene data",
            expected=f"one of {closest(action, actions)}",
            fix="gradgene data inspect my.h5ad",
        )
    actions[action](paths[0])


def inspect(path: str) -> None:
    """Describe one `.h5ad` file; raises `CellsError` if it cannot be read."""
    file = resolve_path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = ad.read_h5ad(file, backed="r")
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise CellsError(
            "is not a readable AnnData file", where=str(file), found=str(error)
        ) from error
    console = Console(soft_wrap=True)
    console.print(f"{file}: {adata.n_obs} cells x {adata.n_vars} genes")
    console.print(f"genes: {', '.join(map(str, adata.var_names[:5]))} …")
    for name, matrix in (("null (.X)", adata.X), ("raw", adata.raw.X if adata.raw else None)):
        if matrix is not None:
            console.print(f"data.layer={name}: {value_kind(matrix)}")
    console.print(columns(adata.obs))
    adata.file.close()


def value_kind(matrix: object) -> str:
    """Guess from the first 200 cells what the values are."""
    block = matrix[:200]  # type: ignore[index]
    values = np.asarray(block.data if hasattr(block, "indptr") else block, dtype=float).ravel()
    if not np.isfinite(values).all() or (values < 0).any():
        return "scaled or damaged values (negative or not finite): not usable"
    if (values == np.round(values)).all():
        return "counts (data.values=counts)"
    return f"not whole numbers, highest {values.max():.3g} (data.values=lognorm)"


def columns(obs: pd.DataFrame) -> Table:
    """Obs columns that can be phenotypes or donors, with their labels."""
    table = Table("obs column", "labels", "most frequent (cells)")
    for name in obs.columns:
        counts = obs[name].value_counts()
        if pd.api.types.is_float_dtype(obs[name]) or len(counts) > MAX_LABELS:
            continue
        top = ", ".join(f"{k} ({v})" for k, v in counts.head(4).items())
        table.add_row(str(name), str(len(counts)), top)
    return table
