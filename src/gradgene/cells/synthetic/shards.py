"""Synthetic cells of any number with planted genes, in files shaped as CELLxGENE's are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.errors import ConfigError

__all__ = ["SyntheticShards", "write_synthetic_shards"]

#: What a cell may be where the caller does not say.
LABELS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "cell_type": ("B cell", "T cell", "monocyte", "natural killer cell"),
        "tissue": ("blood", "lung"),
        "disease": ("normal", "influenza"),
        "development_stage": ("35-year-old stage", "60-year-old stage"),
        "sex": ("female", "male"),
        "assay": ("10x 3' v2", "10x 3' v3"),
    }
)
#: Columns whose labels have genes of their own, and how many genes a label has.
PLANTED, GENES_A_LABEL = ("disease", "cell_type"), 5
#: Share of a cell's molecules that come from the genes of its label, for each planted column.
EFFECT = 0.06
#: Columns that belong to the donor rather than to the cell.
OF_DONOR = ("sex", "development_stage")
#: Entries of the table from which genes are drawn: draws are 16-bit numbers.
TABLE = 1 << 16


@dataclass(frozen=True)
class SyntheticShards:
    """What `write_synthetic_shards` wrote.

    Attributes
    ----------
    paths
        The files.
    planted
        Column -> label -> symbols of the genes that are up in cells of that label.
    """

    paths: tuple[Path, ...]
    planted: dict[str, dict[str, tuple[str, ...]]]


def write_synthetic_shards(
    folder: str | Path,
    n_cells: int,
    n_shards: int = 1,
    n_genes: int = 2000,
    genes_per_cell: int = 200,
    labels: Mapping[str, Sequence[str]] | None = None,
    n_donors: int = 12,
    unknown: float = 0.01,
    seed: int = 0,
    format: Literal["h5ad", "zarr"] = "h5ad",
) -> SyntheticShards:
    """Write counts of `n_cells` cells into `n_shards` files, one file in memory at a time.

    Columns are those of CELLxGENE: `cell_type tissue disease development_stage sex assay donor_id`;
    genes are indexed by Ensembl id with their symbol in `feature_name`. Files differ in the order
    of their genes, each lacks a few, and, where there are several files, each lacks one cell type.
    Every donor has cells of every disease; sex and stage belong to the donor.

    Parameters
    ----------
    folder
        Where `shard_000.h5ad` … are written; made if need be.
    n_genes
        Genes over all files.
    genes_per_cell
        About the mean number of genes a cell expresses; cells differ about threefold.
    labels
        Column -> labels, in place of the columns of `LABELS` or beside them. The first five genes
        that no other label has are up in cells of each label of `disease` and `cell_type`.
    unknown
        Share of cells whose `cell_type` is "unknown".

    Raises
    ------
    ConfigError
        If there are fewer cells than files, or too few genes for what is asked.
    """
    plan = _Plan.make({**LABELS, **(labels or {})}, n_genes, genes_per_cell, n_donors, seed)
    if not 1 <= n_shards <= n_cells:
        raise ConfigError("needs at least a cell a file", where="n_shards", found=str(n_shards))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, n_cells, n_shards + 1).astype(int)
    paths = []
    for i in range(n_shards):
        rng = np.random.default_rng([seed, i])
        size = int(bounds[i + 1] - bounds[i])
        adata = _shard(plan, size, i if n_shards > 1 else None, unknown, rng)
        paths.append(folder / f"shard_{i:03d}.{format}")
        _write(adata, paths[-1])
    symbols = {
        column: {label: tuple(f"GENE{g}" for g in genes) for label, genes in mine.items()}
        for column, mine in plan.planted.items()
    }
    return SyntheticShards(tuple(paths), symbols)


def _write(adata: ad.AnnData, path: Path) -> None:
    if path.suffix == ".h5ad":
        adata.write_h5ad(path)
        return
    with warnings.catch_warnings():  # anndata announces that its zarr version will change
        warnings.simplefilter("ignore", UserWarning)
        adata.write_zarr(path)


@dataclass(frozen=True)
class _Plan:
    """What is common to all files: labels, donors, frequencies of genes, planted genes."""

    labels: Mapping[str, Sequence[str]]
    donors: pd.DataFrame
    planted: dict[str, dict[str, np.ndarray]]
    table: np.ndarray
    n_genes: int
    depth: float

    @classmethod
    def make(
        cls,
        labels: Mapping[str, Sequence[str]],
        n_genes: int,
        genes_per_cell: int,
        n_donors: int,
        seed: int,
    ) -> _Plan:
        rng = np.random.default_rng(seed)
        n_planted = GENES_A_LABEL * sum(len(labels[c]) for c in PLANTED)
        if n_genes < n_planted + 10 or not 1 <= genes_per_cell <= n_genes / 2:
            raise ConfigError(
                "are too few genes",
                where="n_genes",
                expected=f"{n_planted + 10} or more, and twice genes_per_cell",
                found=f"{n_genes} genes, {genes_per_cell} a cell",
            )
        share_g = rng.lognormal(sigma=1.0, size=n_genes)
        share_g[:n_planted] = np.median(share_g)  # planted genes are neither rare nor dominant
        share_g /= share_g.sum()
        ends = np.round(np.cumsum(share_g) * TABLE).astype(int)
        table = np.searchsorted(ends, np.arange(TABLE), side="right").astype(np.int32)
        planted: dict[str, dict[str, np.ndarray]] = {}
        first = 0
        for column in PLANTED:
            planted[column] = {}
            for label in labels[column]:
                planted[column][label] = np.arange(first, first + GENES_A_LABEL)
                first += GENES_A_LABEL
        donors = pd.DataFrame({"donor_id": [f"donor{i:03d}" for i in range(n_donors)]})
        for column in OF_DONOR:
            donors[column] = rng.permutation(np.resize(labels[column], n_donors))
        depth = _depth(np.bincount(table, minlength=n_genes) / TABLE, genes_per_cell)
        return cls(labels, donors, planted, table, n_genes, depth)


def _depth(share_g: np.ndarray, genes_per_cell: int) -> float:
    """Molecules a cell needs to show `genes_per_cell` genes on average; found by bisection."""
    low, high = 1.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        shown = float((1 - (1 - share_g) ** middle).sum())
        low, high = (middle, high) if shown < genes_per_cell else (low, middle)
    return high


def _shard(
    plan: _Plan, n: int, number: int | None, unknown: float, rng: np.random.Generator
) -> ad.AnnData:
    """One file; `number` None for a file that is alone and therefore complete."""
    codes = {c: rng.integers(len(plan.labels[c]), size=n) for c in plan.labels if c not in OF_DONOR}
    types = len(plan.labels["cell_type"])
    if number is not None and types > 2:
        shifted = rng.integers(1, types, size=n)
        codes["cell_type"] = (number + shifted) % types  # all but one type
    counts_ng = _counts(plan, codes, rng)
    kept = np.arange(plan.n_genes)
    if number is not None:
        spare = np.arange(sum(len(g) for m in plan.planted.values() for g in m.values()), len(kept))
        lacking = rng.choice(spare, size=max(1, len(spare) // 50), replace=False)
        kept = rng.permutation(np.setdiff1d(kept, lacking))
        counts_ng = _reordered(counts_ng, kept)
    donor = rng.integers(len(plan.donors), size=n)
    obs = {c: pd.Categorical.from_codes(k, pd.Index(plan.labels[c])) for c, k in codes.items()}
    for column in plan.donors.columns:
        obs[column] = pd.Categorical(plan.donors[column]).take(donor)
    names = obs["cell_type"].add_categories(["unknown"])
    names[rng.random(n) < unknown] = "unknown"
    obs["cell_type"] = names
    order = [c for c in (*LABELS, *plan.labels, "donor_id") if c in obs]
    prefix = f"shard{number or 0:03d}_cell"
    return ad.AnnData(
        counts_ng,
        obs=pd.DataFrame(obs, index=[f"{prefix}{i:07d}" for i in range(n)])[
            list(dict.fromkeys(order))
        ],
        var=pd.DataFrame(
            {"feature_name": [f"GENE{g}" for g in kept]},
            index=pd.Index([f"ENSG{g:011d}" for g in kept], name="feature_id"),
        ),
    )


def _counts(
    plan: _Plan, codes: Mapping[str, np.ndarray], rng: np.random.Generator
) -> sparse.csr_matrix:
    """(cells, genes) CSR float32: each molecule of a cell is of a gene drawn by frequency."""
    n = len(codes["disease"])
    # A lognormal depth of mean one times the wanted mean; a cell has one molecule at least.
    depth_n = np.maximum(rng.lognormal(-0.08, 0.4, n) * plan.depth, 1).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(depth_n)])
    gene = plan.table[rng.integers(TABLE, size=indptr[-1], dtype=np.uint16)]
    for column, planted in plan.planted.items():
        genes = np.stack([planted[label] for label in plan.labels[column]])
        at = np.flatnonzero(rng.random(indptr[-1], dtype=np.float32) < EFFECT)
        cell = np.searchsorted(indptr, at, side="right") - 1
        gene[at] = genes[codes[column][cell], rng.integers(GENES_A_LABEL, size=at.size)]
    ones = np.ones(indptr[-1], dtype=np.float32)
    counts_ng = sparse.csr_matrix((ones, gene, indptr), shape=(n, plan.n_genes))
    counts_ng.sum_duplicates()
    return counts_ng


def _reordered(counts_ng: sparse.csr_matrix, kept: np.ndarray) -> sparse.csr_matrix:
    """The columns `kept`, in that order, with sorted indices."""
    place = np.full(counts_ng.shape[1], -1, dtype=np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    column = place[counts_ng.indices]
    stays = column >= 0
    ends = np.concatenate([[0], np.cumsum(stays)])[counts_ng.indptr]
    made = sparse.csr_matrix(
        (counts_ng.data[stays], column[stays], ends), shape=(counts_ng.shape[0], len(kept))
    )
    made.sort_indices()
    return made
