"""Choose the genes a model sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

from gradgene.cells.cells import Cells, log_normalise
from gradgene.cells.joining import strip_version
from gradgene.cells.user_files import read_names
from gradgene.errors import CellsError, closest
from gradgene.modes import same_threads

__all__ = ["GeneRule", "choose_genes", "panel_notes"]

#: What "most variable" means: scanpy's two normalised dispersions, or the plain variance of log1p.
GeneRule = Literal["seurat", "cell_ranger", "variance"]


def choose_genes(
    cells: Cells, genes: int | str | None, rule: GeneRule = "seurat"
) -> tuple[str, ...]:
    """Names of the genes of the model, in the order of the cells' columns.

    Parameters
    ----------
    cells
        Training cells only, so that the choice cannot see held-out donors, with all their genes. Of
        shards too many to hold, a random sample of training cells serves (some 10,000 do).
    genes
        None for every gene seen in them; n for the n most variable of those; a file name for one
        gene a line.
    rule
        "seurat" or "cell_ranger": dispersion of log-normalised values relative to genes of like
        mean, by scanpy's `highly_variable_genes`; with few cells it prefers rare genes.
        "variance": of log1p values as they are (of counts where the cells hold counts), which keeps
        what is both abundant and variable.

    Raises
    ------
    CellsError
        For a missing file, a file without a known gene, a number below 1, or an unknown rule.
    """
    if rule not in get_args(GeneRule):
        raise CellsError(
            f"unknown rule {rule!r}",
            where="data.gene_rule",
            expected=f"one of {closest(rule, get_args(GeneRule))}",
        )
    if isinstance(genes, str):
        return _listed(cells, genes)
    seen = np.flatnonzero(np.asarray(cells.matrix_ng.sum(axis=0)).ravel() > 0)
    if genes is not None:
        if genes < 1:
            raise CellsError(f"asks for {genes} genes", where="data.genes", expected="1 or more")
        if genes < seen.size:
            # A stable sort keeps ties in column order: the panel never depends on the platform.
            spread_g = _variance(cells) if rule == "variance" else _dispersion(cells, rule)
            order = np.argsort(-spread_g[seen], kind="stable")
            seen = np.sort(seen[order[:genes]])
    return tuple(cells.genes[i] for i in seen)


def panel_notes(known: Sequence[str], genes: int | str | None) -> tuple[str, ...]:
    """A line on the genes of a list that are not among the `known`; none where all are.

    `genes` is as in `choose_genes`; raises `CellsError` for a file that is missing or no text.
    """
    if not isinstance(genes, str):
        return ()
    wanted = _names(genes)
    there = set(known)
    lost = [name for name in wanted if name not in there]
    if not lost:
        return ()
    first = ", ".join(lost[:5]) + ", …" * (len(lost) > 5)
    return (
        f"data.genes: {len(lost)} of the {len(wanted)} genes of {genes} are not in the cells: "
        f"{first}",
    )


def _listed(cells: Cells, name: str) -> tuple[str, ...]:
    wanted = set(_names(name))
    known = tuple(gene for gene in cells.genes if gene in wanted)
    if not known:
        raise CellsError(
            f"no gene of {name} is in the cells",
            where="data.genes",
            expected=f"names such as {', '.join(cells.genes[:3])}",
            found=", ".join(sorted(wanted)[:3]) or "an empty file",
        )
    return known


def _names(name: str) -> list[str]:
    """The names in a file, each once and without versions."""
    return list(dict.fromkeys(map(strip_version, read_names(name, "data.genes"))))


def _variance(cells: Cells) -> np.ndarray:
    """(genes,) variance of log1p values."""
    values_ng = cells.matrix_ng.astype(np.float64)
    if cells.schema.values == "counts":
        values_ng.data = np.log1p(values_ng.data)
    mean_g = np.asarray(values_ng.mean(axis=0)).ravel()
    squares_g = np.asarray(values_ng.multiply(values_ng).mean(axis=0)).ravel()
    spread_g: np.ndarray = squares_g - mean_g**2
    return spread_g


@same_threads()
def _dispersion(cells: Cells, flavor: str) -> np.ndarray:
    """(genes,) scanpy's normalised dispersion; a gene that has none is the least variable."""
    adata = ad.AnnData(
        log_normalise(cells).matrix_ng,
        var=pd.DataFrame(index=pd.Index(cells.genes, dtype=object)),
    )
    sc.pp.highly_variable_genes(adata, flavor=flavor)
    dispersion_g = adata.var["dispersions_norm"].to_numpy(dtype=float)
    known_g: np.ndarray = np.where(np.isfinite(dispersion_g), dispersion_g, -np.inf)
    return known_g
