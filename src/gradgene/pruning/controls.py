"""Orders of a model's genes by the field's usual controls, of which none asks a model.

All are made on log-normalised cells: those a model was trained on, never those it is judged on.
"""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import stats

from gradgene.cells import Cells
from gradgene.errors import RankingError
from gradgene.modes import same_threads
from gradgene.pruning.ranking import GeneRanking

__all__ = [
    "deg_ranking",
    "expression_ranking",
    "hvg_batch_ranking",
    "hvg_ranking",
    "matched_rankings",
    "pseudobulk_ranking",
    "random_rankings",
]

#: Share of the panel that counts as highly variable in a batch.
VARIABLE_SHARE = 0.1
#: Genes are matched within groups of about this many or more, in this many groups at most.
MATCHED_GENES, MOST_MATCHED = 8, 30
#: Each group of like expression is parted by the share of cells that express the gene.
DETECTION_GROUPS = 3


@same_threads()
def hvg_ranking(cells: Cells) -> GeneRanking:
    """Genes by scanpy's normalised dispersion (`flavor="seurat"`) on log-normalised cells."""
    adata = _anndata(cells)
    sc.pp.highly_variable_genes(adata, flavor="seurat")
    dispersion = adata.var["dispersions_norm"].to_numpy(dtype=float)
    return GeneRanking("hvg", cells.genes, _least_for_nan(dispersion))


@same_threads()
def hvg_batch_ranking(cells: Cells) -> GeneRanking:
    """Genes by the number of batches in which they are among the most variable tenth of the panel.

    The batch is the schema's batch column, or its donor where there is none; those of one cell, in
    which nothing varies, are left out. Equal numbers are ordered by the mean over batches of the
    normalised dispersion, as scanpy's `batch_key` orders them: the score is the number of batches
    plus that mean, scaled to [0, 1). Raises `RankingError` without a batch of two cells.
    """
    column = cells.schema.batch or cells.schema.donor
    if column is None:
        raise RankingError(
            "hvg_batch needs batches",
            where="pruning.controls",
            fix="name an obs column in study.batch or study.donor",
        )
    batch_n = cells.obs[column].astype(object).where(cells.obs[column].notna(), "unknown")
    large_n = batch_n.map(batch_n.value_counts()).to_numpy() >= 2
    if not large_n.any():
        raise RankingError(
            f"no {column!r} has two cells", where="pruning.controls", fix="leave out hvg_batch"
        )
    adata = _anndata(cells.take(np.flatnonzero(large_n)))
    adata.obs["batch"] = pd.Categorical(batch_n[large_n].astype(str))
    n_top = max(1, round(len(cells.genes) * VARIABLE_SHARE))
    with warnings.catch_warnings():
        # pandas' advice on scanpy's own code.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        sc.pp.highly_variable_genes(adata, n_top_genes=n_top, batch_key="batch")
    dispersion = _least_for_nan(adata.var["dispersions_norm"].to_numpy(dtype=float))
    span = float(np.ptp(dispersion)) or 1.0
    within = (dispersion - dispersion.min()) / span * (1 - 1e-9)
    n_batches = adata.var["highly_variable_nbatches"].to_numpy(dtype=float)
    return GeneRanking("hvg_batch", cells.genes, n_batches + within)


@same_threads()
def deg_ranking(cells: Cells, target: str, input_label: str, baseline_label: str) -> GeneRanking:
    """Genes by |z| of scanpy's Wilcoxon rank-sum test of input against baseline cells.

    Raises `RankingError` if a label has fewer than two cells.
    """
    counts = cells.counts_of(target)
    few = [label for label in (input_label, baseline_label) if counts.get(label, 0) < 2]
    if few:
        raise RankingError(f"DEG needs two cells of {few[0]!r}", where="pruning.controls")
    adata = _anndata(cells)
    adata.obs[target] = adata.obs[target].astype("category")
    with warnings.catch_warnings():
        # scanpy divides by zero in the fold changes of unexpressed genes, which are not used.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)
        sc.tl.rank_genes_groups(
            adata, target, groups=[input_label], reference=baseline_label, method="wilcoxon"
        )
    found = sc.get.rank_genes_groups_df(adata, group=input_label).set_index("names")["scores"]
    z = found.reindex(list(cells.genes)).to_numpy(dtype=float)
    return GeneRanking("deg", cells.genes, np.abs(np.nan_to_num(z, posinf=0, neginf=0)))


@same_threads()
def pseudobulk_ranking(
    cells: Cells, target: str, input_label: str, baseline_label: str
) -> GeneRanking:
    """Genes by |t| between the labels of donors' pseudobulks, a donor counting once a label.

    A pseudobulk is log1p of the mean, over a donor's cells of one label, of counts scaled to 10,000
    a cell: the cells hold no raw counts any more, so every cell weighs the same, whatever its
    depth. Where every donor has both labels the test is the paired t-test of their differences,
    otherwise Welch's. Genes that differ by the same in every donor get the largest finite |t|.

    Raises `RankingError` without donors, or with fewer than two of a label.
    """
    donor = cells.schema.donor
    if donor is None:
        raise RankingError(
            "deg_pseudobulk needs donors",
            where="pruning.controls",
            fix="name the donors' obs column in study.donor",
        )
    bulks = _pseudobulks(cells, donor, target, input_label, baseline_label)
    for label, bulk in zip((input_label, baseline_label), bulks, strict=True):
        if len(bulk) < 2:
            raise RankingError(
                f"deg_pseudobulk needs two donors of {label!r}",
                where="pruning.controls",
                found=f"{len(bulk)} among the training cells",
                fix="leave it out of pruning.controls, or hold out fewer donors",
            )
    input_dg, baseline_dg = bulks
    paired = set(input_dg.index) == set(baseline_dg.index)
    with warnings.catch_warnings():
        # Of genes that hardly vary, scipy says that their t is imprecise.
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            tested = stats.ttest_rel(input_dg, baseline_dg.loc[input_dg.index])
        else:
            tested = stats.ttest_ind(input_dg, baseline_dg, equal_var=False)
    t_g = np.abs(np.asarray(tested.statistic, dtype=float))
    t_g[np.isnan(t_g)] = 0  # a gene that no cell expresses
    finite = np.isfinite(t_g)
    t_g[~finite] = t_g[finite].max() if finite.any() else 0.0
    return GeneRanking("deg_pseudobulk", cells.genes, t_g)


def expression_ranking(cells: Cells) -> GeneRanking:
    """Genes by mean log-normalised expression."""
    return GeneRanking("expression", cells.genes, _mean(cells))


def random_rankings(genes: tuple[str, ...], n: int, seed: int) -> list[GeneRanking]:
    """`n` independent uniform orders of the panel, reproducible from `seed`."""
    rng = np.random.default_rng(seed)
    return [GeneRanking("random", genes, rng.random(len(genes)), draw) for draw in range(n)]


def matched_rankings(ranking: GeneRanking, cells: Cells, n: int, seed: int) -> list[GeneRanking]:
    """`n` random orders whose best k genes are expressed like the best k of `ranking`, for any k.

    The panel is sorted by mean log-normalised expression and cut into groups of equal size; each
    is sorted by detection, the share of cells that express the gene, and cut into three (see
    `matched_groups`). Within each of these the genes exchange their places in the ranking at
    random, so the best k of a draw have as many genes of every group as the best k of the ranking.
    A gene may draw its own place. Pruning by `ranking` beats this where its genes say more than
    others that are expressed as much and as often.
    """
    group_g = matched_groups(cells)
    rng = np.random.default_rng(seed)
    # Places, not scores: ties of a score would be ordered by name, which is not at random.
    place_g = np.empty(len(ranking.genes))
    place_g[ranking.best_first] = np.arange(len(place_g), 0, -1)
    draws = []
    for draw in range(n):
        drawn_g = place_g.copy()
        for group in range(group_g.max() + 1):
            of = np.flatnonzero(group_g == group)
            drawn_g[of] = rng.permutation(place_g[of])
        draws.append(GeneRanking("random_matched", ranking.genes, drawn_g, draw))
    return draws


def matched_groups(cells: Cells) -> np.ndarray:
    """(genes,) int: number of the group of like expression and detection that a gene is in.

    There are clip(genes / 24, 1, 30) groups of expression, of equal size, and three of detection in
    each; genes of equal values are parted by the order of the panel.
    """
    n_genes = len(cells.genes)
    least = MATCHED_GENES * DETECTION_GROUPS
    n_groups = int(np.clip(n_genes // least, 1, MOST_MATCHED))
    detection_g = np.asarray((cells.matrix_ng > 0).mean(axis=0)).ravel()
    group_g = np.empty(n_genes, dtype=int)
    by_mean = np.array_split(np.argsort(_mean(cells), kind="stable"), n_groups)
    for i, alike in enumerate(by_mean):
        by_detection = alike[np.argsort(detection_g[alike], kind="stable")]
        for j, genes in enumerate(np.array_split(by_detection, DETECTION_GROUPS)):
            group_g[genes] = DETECTION_GROUPS * i + j
    return group_g


def _anndata(cells: Cells) -> ad.AnnData:
    return ad.AnnData(
        X=cells.matrix_ng.copy(),
        obs=cells.obs.copy(),
        var=pd.DataFrame(index=pd.Index(cells.genes, dtype=object)),
    )


def _mean(cells: Cells) -> np.ndarray:
    return np.asarray(cells.matrix_ng.mean(axis=0)).ravel().astype(float)


def _least_for_nan(dispersion_g: np.ndarray) -> np.ndarray:
    """A gene with no dispersion (constant, or unseen in these cells) is the least variable."""
    known = np.isfinite(dispersion_g)
    return np.where(known, dispersion_g, dispersion_g[known].min() if known.any() else 0.0)


def _pseudobulks(
    cells: Cells, donor: str, target: str, *labels: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """log1p of mean normalised counts of each label, donors × genes."""
    known_n = cells.obs[donor].notna() & cells.obs[target].isin(labels)
    adata = _anndata(cells.take(np.flatnonzero(known_n.to_numpy())))
    adata.X = adata.X.expm1()
    keys = adata.obs[[donor, target]].astype(str)
    adata.obs = keys.astype("category")
    mean = sc.get.aggregate(adata, by=[donor, target], func="mean")
    bulk_bg = pd.DataFrame(
        np.log1p(np.asarray(mean.layers["mean"], dtype=float)),
        index=mean.obs[donor].astype(str).to_numpy(),
        columns=list(cells.genes),
    )
    label_b = mean.obs[target].astype(str).to_numpy()
    first, second = (bulk_bg[label_b == label] for label in labels)
    return first, second
