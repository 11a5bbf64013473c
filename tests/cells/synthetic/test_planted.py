"""Planted cells hold what is said of them."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from gradgene.cells import (
    PLANTED_LEVELS,
    CellSchema,
    Planted,
    PlantedLevel,
    cells_from_anndata,
    plant_cells,
)
from gradgene.errors import ConfigError

LEVEL = PlantedLevel(name="small", n_cells=12_000, n_copies=2)


@pytest.fixture(scope="module")
def planted() -> Planted:
    """One draw of a small level."""
    return plant_cells(LEVEL, 7)


def case_of(planted: Planted) -> np.ndarray:
    """(cells,) bool."""
    return (planted.adata.obs["disease"] == "case").to_numpy()


def counts_of(planted: Planted, role: str) -> np.ndarray:
    """(cells, genes of a role) divided by depth."""
    chosen = planted.adata[:, planted.adata.var["role"] == role]
    return chosen.X.toarray() / planted.adata.obs["depth"].to_numpy()[:, None]


def test_every_role_has_its_genes(planted: Planted) -> None:
    found = planted.adata.var["role"].value_counts().to_dict()
    assert found == LEVEL.sizes
    assert planted.adata.shape == (12_000, LEVEL.n_genes)
    assert len(planted.genes.causal) == 12 and not planted.genes.causal & planted.genes.neutral


def test_the_same_seed_gives_the_same_cells(planted: Planted) -> None:
    again, other = plant_cells(LEVEL, 7), plant_cells(LEVEL, 8)
    assert (again.adata.X != planted.adata.X).nnz == 0
    assert again.adata.obs.equals(planted.adata.obs)
    assert other.genes.causal != planted.genes.causal, "names must not tell roles"


def test_partners_name_each_other(planted: Planted) -> None:
    partner = planted.adata.var["partner"]
    for a, b in planted.genes.xor_pairs:
        assert partner[a] == b and partner[b] == a
        assert planted.genes.roles[a] == planted.genes.roles[b] == "xor"
    copies = planted.adata.var.index[planted.adata.var["role"] == "copy"]
    assert {planted.genes.roles[partner[c]] for c in copies} <= {"main_up", "main_down"}
    assert (partner[planted.adata.var["role"] == "decoy"] == "").all()


def test_main_genes_have_their_fold_change(planted: Planted) -> None:
    case_n = case_of(planted)
    for role, fold in (("main_up", LEVEL.main_fold), ("main_down", 1 / LEVEL.main_fold)):
        mean = counts_of(planted, role)
        change_g = mean[case_n].mean(axis=0) / mean[~case_n].mean(axis=0)
        np.testing.assert_allclose(change_g, fold, rtol=0.08)


def test_pairs_say_nothing_gene_by_gene_and_much_together(planted: Planted) -> None:
    case_n, state_nk2 = case_of(planted), planted.adata.obsm["xor_state"].reshape(12_000, -1, 2)
    for k, (a, b) in enumerate(planted.genes.xor_pairs):
        one_n = state_nk2[:, k].sum(axis=1) == 1
        assert np.mean(one_n == case_n) == pytest.approx(LEVEL.xor_fidelity, abs=0.01)
        for i, gene in enumerate((a, b)):
            count_n = planted.adata[:, gene].X.toarray().ravel()
            assert stats.pointbiserialr(case_n, state_nk2[:, k, i]).pvalue > 1e-3
            # The gene follows its state.
            assert roc_auc_score(state_nk2[:, k, i], count_n) > 0.95
        log_odds_n = planted.adata.obsm["xor_log_odds"][:, k]
        assert log_odds_n[one_n].mean() - log_odds_n[~one_n].mean() > 2


def test_copies_say_nothing_beyond_their_original(planted: Planted) -> None:
    var = planted.adata.var
    for copy in var.index[var["role"] == "copy"]:
        count_n = planted.adata[:, copy].X.toarray().ravel()
        original_n = planted.adata[:, var.loc[copy, "partner"]].X.toarray().ravel()
        assert (count_n <= original_n).all()
        assert count_n.sum() / original_n.sum() == pytest.approx(LEVEL.copy_share, abs=0.01)


def test_log_odds_are_calibrated_and_nothing_is_left_to_gain(planted: Planted) -> None:
    case_n, log_odds_n = case_of(planted), planted.adata.obs["log_odds"].to_numpy()
    p_n = 1 / (1 + np.exp(-log_odds_n))
    bins = np.digitize(p_n, [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
    for b in range(8):
        chosen = bins == b
        spread = 4 * np.sqrt(p_n[chosen].mean() * (1 - p_n[chosen].mean()) / chosen.sum())
        assert case_n[chosen].mean() == pytest.approx(p_n[chosen].mean(), abs=spread)


@pytest.mark.parametrize("role", ["decoy", "ambient", "null"])
def test_other_genes_do_not_depend_on_the_label_given_their_donor(
    planted: Planted, role: str
) -> None:
    # Over many donors and draws the mean difference is chance; labels belong to donors.
    obs, mean = planted.adata.obs, counts_of(planted, role)
    donors = obs.groupby("donor", observed=True).indices
    log_d = np.log([mean[rows].mean() for rows in donors.values()])
    case_d = np.array([(obs["disease"].iloc[rows[0]] == "case") for rows in donors.values()])
    assert stats.ttest_ind(log_d[case_d], log_d[~case_d]).pvalue > 1e-3


def test_decoys_are_always_on_and_batches_differ(planted: Planted) -> None:
    assert (counts_of(planted, "decoy") > 0).mean() > 0.99
    mean, batch = counts_of(planted, "batch"), planted.adata.obs["batch"]
    first, last = (mean[(batch == b).to_numpy()].mean(axis=0) for b in ("batch1", "batch3"))
    np.testing.assert_allclose(np.abs(np.log(last / first)), 2 * np.log(3), rtol=0.2)


def test_held_out_donors_have_the_labels_of_every_batch_as_the_others_have(
    planted: Planted,
) -> None:
    obs = planted.adata.obs
    held = obs["donor"].isin(planted.held_out)
    share = obs["disease"].eq("case").groupby([held, obs["batch"]], observed=True).mean()
    np.testing.assert_allclose(share[True], share[False], atol=0.02)
    np.testing.assert_allclose(share[True], [2 / 3, 1 / 2, 1 / 3], atol=0.02)


def test_the_truth_travels_in_the_file(planted: Planted, tmp_path: Path) -> None:
    read = ad.read_h5ad(planted.write(tmp_path / "cells.h5ad"))
    assert Planted(read).genes.causal == planted.genes.causal
    assert Planted(read).genes.xor_pairs == planted.genes.xor_pairs
    assert Planted(read).held_out == planted.held_out
    schema = CellSchema(("cell_type", "disease"), donor="donor", batch="batch")
    assert cells_from_anndata(read, schema).genes == tuple(planted.adata.var_names)


@pytest.mark.parametrize("name", ["default", "hard"])
def test_the_levels_that_count_are_not_easy_gene_by_gene(name: str) -> None:
    planted = plant_cells(PLANTED_LEVELS[name], 3)
    case_n, matrix = case_of(planted), planted.adata.X.toarray()
    lognorm = np.log1p(1e4 * matrix / matrix.sum(axis=1, keepdims=True))
    genes = [g for g in planted.adata.var_names if g not in planted.genes.neutral]
    columns = planted.adata.var_names.get_indexer(genes)
    z_g = np.abs(stats.ranksums(lognorm[case_n], lognorm[~case_n], axis=0).statistic[columns])
    found = average_precision_score([g in planted.genes.causal for g in genes], z_g)
    assert found <= 0.7


@pytest.mark.parametrize(
    ("settings", "where"), [({"n_cells": 50}, "n_cells"), ({"n_copies": 9}, "n_copies")]
)
def test_impossible_levels_are_refused(settings: dict, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PlantedLevel(name="x", **settings)
    assert caught.value.where == where
