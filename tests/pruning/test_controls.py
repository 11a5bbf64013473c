"""The controls agree with scanpy and scipy, and matched random sets with what they match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from gradgene.cells import Cells, log_normalise
from gradgene.errors import RankingError
from gradgene.pruning import (
    GeneRanking,
    deg_ranking,
    expression_ranking,
    hvg_batch_ranking,
    hvg_ranking,
    matched_rankings,
    pseudobulk_ranking,
    random_rankings,
)
from gradgene.pruning.controls import matched_groups
from tests.planted import CASE_GENES, CONTROL_GENES, make_cells

LABELS = ("disease", "case", "control")


@pytest.fixture(autouse=True)
def one_thread_again() -> Iterator[None]:
    """Tests that ask scanpy directly must not leave torch more threads than the suite allows."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def lognorm_cells() -> Cells:
    """Planted cells, log-normalised, with one gene that no cell expresses."""
    cells = log_normalise(make_cells(n=80, n_genes=40))
    matrix = cells.matrix_ng.tolil()
    matrix[:, 12] = 0
    return replace(cells, matrix_ng=sparse.csr_matrix(matrix))


def test_hvg_is_scanpys_order() -> None:
    cells = lognorm_cells()
    adata = ad.AnnData(cells.matrix_ng.copy(), var=pd.DataFrame(index=list(cells.genes)))
    peer = sc.pp.highly_variable_genes(adata, flavor="seurat", inplace=False)
    normed = pd.Series(np.asarray(peer["dispersions_norm"], dtype=float), index=list(cells.genes))
    known = normed.dropna()
    assert len(known) == len(cells.genes) - 1  # the unexpressed gene has no dispersion
    ranking = hvg_ranking(cells)
    ours = [g for g in ranking.top(len(cells.genes)) if g in known.index]
    values = known.loc[ours].to_numpy()
    assert (np.diff(values) <= 0).all() and values[0] > values[-1]
    assert ranking.scores_g[12] == ranking.scores_g.min()


def test_deg_is_the_rank_sum_test() -> None:
    cells = lognorm_cells()
    dense, case = cells.matrix_ng.toarray(), (cells.obs["disease"] == "case").to_numpy()
    peer = np.array([stats.ranksums(x[case], x[~case]).statistic for x in dense.T])
    ranking = deg_ranking(cells, "disease", "case", "control")
    np.testing.assert_allclose(ranking.scores_g, np.abs(peer), rtol=1e-4, atol=1e-6)
    # Planted genes of both signs come first: the control is about either direction.
    assert set(ranking.top(10)) == {*CASE_GENES, *CONTROL_GENES}


def test_torch_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, before = lognorm_cells(), torch.get_num_threads()
    for where, name in ((sc.pp, "highly_variable_genes"), (sc.tl, "rank_genes_groups")):
        real = getattr(where, name)

        def as_at_first_use(*args: Any, _real: Any = real, **kwargs: Any) -> Any:
            # What starting numba's threads does, once a process, whichever test comes first.
            torch.set_num_threads(before + 1)
            return _real(*args, **kwargs)

        monkeypatch.setattr(where, name, as_at_first_use)
    hvg_ranking(cells)
    assert torch.get_num_threads() == before
    deg_ranking(cells, "disease", "case", "control")
    assert torch.get_num_threads() == before


def test_deg_compares_the_two_labels_only() -> None:
    cells = lognorm_cells()
    three = cells.obs["disease"].to_numpy().copy()
    three[:20] = "other"
    mixed = replace(cells, obs=cells.obs.assign(disease=three))
    alone = mixed.take(np.flatnonzero(three != "other"))
    np.testing.assert_allclose(
        deg_ranking(mixed, "disease", "case", "control").scores_g,
        deg_ranking(alone, "disease", "case", "control").scores_g,
    )


def test_deg_needs_two_cells_a_label() -> None:
    cells = lognorm_cells()
    labels = cells.obs["disease"].to_numpy()
    rows = np.r_[np.flatnonzero(labels == "case"), np.flatnonzero(labels == "control")[:1]]
    with pytest.raises(RankingError, match="two cells of 'control'"):
        deg_ranking(cells.take(rows), "disease", "case", "control")


def test_expression_is_the_mean() -> None:
    cells = lognorm_cells()
    ranking = expression_ranking(cells)
    np.testing.assert_allclose(ranking.scores_g, cells.matrix_ng.toarray().mean(axis=0), rtol=1e-5)
    assert ranking.top(40)[-1] == "g12"


def test_random_orders_differ_and_repeat() -> None:
    genes = tuple(f"g{i}" for i in range(30))
    draws = random_rankings(genes, 4, seed=1)
    assert [r.draw for r in draws] == [0, 1, 2, 3] and {r.name for r in draws} == {"random"}
    orders = {tuple(r.best_first) for r in draws}
    assert len(orders) == 4
    again = random_rankings(genes, 4, seed=1)
    assert [r.top(30) for r in again] == [r.top(30) for r in draws]
    assert not orders & {tuple(r.best_first) for r in random_rankings(genes, 4, seed=2)}
    assert [r.top(30) for r in random_rankings(genes, 2, seed=1)] == [r.top(30) for r in draws[:2]]


def test_hvg_by_batch_is_scanpys_order() -> None:
    cells = lognorm_cells()
    # A batch of one cell, in which nothing can vary, is left out.
    donors = cells.obs["donor"].to_numpy().copy()
    donors[0] = "alone"
    cells = replace(cells, obs=cells.obs.assign(donor=donors))
    rest = cells.take(np.arange(1, len(cells)))
    adata = ad.AnnData(rest.matrix_ng.copy(), obs=rest.obs[["donor"]].astype("category"))
    adata.var_names = list(cells.genes)
    sc.pp.highly_variable_genes(adata, n_top_genes=4, batch_key="donor")
    ranking = hvg_batch_ranking(cells)
    best = adata.var.loc[ranking.top(len(cells.genes)), :]
    assert (np.diff(best["highly_variable_nbatches"]) <= 0).all()
    assert best["highly_variable_nbatches"].nunique() > 1
    for _, part in best.groupby("highly_variable_nbatches"):
        assert (np.diff(part["dispersions_norm"].dropna()) <= 0).all()
    assert ranking.name == "hvg_batch"
    np.testing.assert_array_equal(
        np.floor(ranking.scores_g), adata.var["highly_variable_nbatches"].to_numpy()
    )


def test_hvg_by_batch_needs_batches() -> None:
    cells = log_normalise(make_cells(n=20, donor=False))
    with pytest.raises(RankingError, match=r"hvg_batch needs batches.*study.batch"):
        hvg_batch_ranking(cells)
    lonely = lognorm_cells().take(np.arange(2))
    lonely = replace(lonely, obs=lonely.obs.assign(donor=["a", "b"]))
    with pytest.raises(RankingError, match="no 'donor' has two cells"):
        hvg_batch_ranking(lonely)


@pytest.mark.parametrize("paired", [True, False])
def test_pseudobulk_is_a_t_test_of_donors(paired: bool) -> None:
    cells = lognorm_cells()
    if not paired:  # one donor has cells of one label only
        rows = (cells.obs["donor"] != "d0") | (cells.obs["disease"] == "case")
        cells = cells.take(np.flatnonzero(rows))
    dense = np.expm1(cells.matrix_ng.toarray().astype(float))
    means: dict[str, list[np.ndarray]] = {"case": [], "control": []}
    for (_, label), part in cells.obs.groupby(["donor", "disease"]):
        at = cells.obs.index.get_indexer(part.index)
        means[str(label)].append(np.log1p(dense[at].mean(axis=0)))
    assert (len(means["case"]), len(means["control"])) == (4, 4 if paired else 3)
    with np.errstate(invalid="ignore"):
        if paired:
            d = np.array(means["case"]) - np.array(means["control"])
            peer = d.mean(axis=0) / (d.std(axis=0, ddof=1) / np.sqrt(len(d)))
        else:
            a, b = np.array(means["case"]), np.array(means["control"])
            spread = a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b)
            peer = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(spread)
    ranking = pseudobulk_ranking(cells, *LABELS)
    np.testing.assert_allclose(ranking.scores_g, np.abs(np.nan_to_num(peer)), rtol=1e-4, atol=1e-9)
    assert ranking.scores_g[12] == 0 and ranking.name == "deg_pseudobulk"
    assert len({*ranking.top(10)} & {*CASE_GENES, *CONTROL_GENES}) >= 9


def test_a_donor_counts_once_however_many_cells_it_has() -> None:
    cells = lognorm_cells()
    many = np.r_[np.arange(len(cells)), np.repeat(np.flatnonzero(cells.obs["donor"] == "d1"), 5)]
    more = cells.take(many)
    more = replace(more, obs=more.obs.set_axis([f"cell{i}" for i in range(len(many))]))
    np.testing.assert_allclose(
        pseudobulk_ranking(more, *LABELS).scores_g,
        pseudobulk_ranking(cells, *LABELS).scores_g,
        rtol=1e-4,
    )
    tested_on_cells = deg_ranking(cells, *LABELS).scores_g
    assert not np.allclose(deg_ranking(more, *LABELS).scores_g, tested_on_cells)


def test_pseudobulk_needs_two_donors_a_label() -> None:
    cells = lognorm_cells()
    rows = (cells.obs["donor"] == "d0") | (cells.obs["disease"] == "case")
    with pytest.raises(RankingError, match=r"two donors of 'control'.*found 1 among"):
        pseudobulk_ranking(cells.take(np.flatnonzero(rows)), *LABELS)
    with pytest.raises(RankingError, match=r"needs donors.*study.donor"):
        pseudobulk_ranking(log_normalise(make_cells(n=20, donor=False)), *LABELS)


@given(st.integers(30, 90), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_matched_sets_are_expressed_like_the_ranking(n_genes: int, seed: int) -> None:
    cells = log_normalise(make_cells(n=40, n_genes=n_genes))
    rng = np.random.default_rng(seed)
    # Half of the scores are ties.
    scores = np.where(rng.random(n_genes) < 0.5, 0.0, rng.random(n_genes))
    ranking = GeneRanking("m/forward", cells.genes, scores)
    group_g = matched_groups(cells)
    draws = matched_rankings(ranking, cells, 2, seed)
    assert [(r.name, r.draw) for r in draws] == [("random_matched", 0), ("random_matched", 1)]
    for draw in draws:
        # At every depth, as many genes of every group as the ranking has.
        np.testing.assert_array_equal(group_g[draw.best_first], group_g[ranking.best_first])
        assert draw.top(n_genes) != ranking.top(n_genes)
    assert draws[0].top(n_genes) != draws[1].top(n_genes)
    again = matched_rankings(ranking, cells, 1, seed)[0]
    np.testing.assert_array_equal(again.scores_g, draws[0].scores_g)


def test_groups_are_alike_in_expression_and_detection() -> None:
    cells = log_normalise(make_cells(n=40, n_genes=100))
    group_g = matched_groups(cells)
    sizes = np.bincount(group_g)
    assert len(sizes) == 3 * (100 // 24) and sizes.min() >= 8 and sizes.max() <= 9
    mean_g = cells.matrix_ng.toarray().mean(axis=0)
    detection_g = (cells.matrix_ng.toarray() > 0).mean(axis=0)
    for i in range(0, len(sizes), 3):
        if i:  # groups of expression do not overlap
            assert mean_g[group_g // 3 == i // 3].min() >= mean_g[group_g // 3 == i // 3 - 1].max()
        for j in (i, i + 1):
            assert detection_g[group_g == j].max() <= detection_g[group_g == j + 1].min()


def test_what_is_always_on_is_matched_by_what_is_always_on() -> None:
    """A ranking that only finds abundant genes cannot look better than its matched draws."""
    cells = log_normalise(make_cells(n=40, n_genes=72))
    top = set(expression_ranking(cells).top(18))
    for draw in matched_rankings(expression_ranking(cells), cells, 5, seed=0):
        assert len(top & set(draw.top(18))) >= 12
    assert len(top & set(random_rankings(cells.genes, 1, 0)[0].top(18))) <= 8
