"""Prune each pair by its own scores, as the paper's code does: a reproduction that leaks the label.

Scores made to tell two cells apart, applied to these two cells, tell them apart whatever the model
knows: what speaks for the input's label is kept in both. A model of random weights pruned in the
same way shows how much of a curve that alone is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning.cutting import CellCuts, Cuts
from gradgene.pruning.predict import predict_cuts
from gradgene.pruning.prune import window
from gradgene.pruning.settings import PruningSettings
from gradgene.tokens import TokenBatch

__all__ = ["predict_pairs", "union_places"]


def predict_pairs(
    model: PhenotypeGeneTransformer,
    members: TokenBatch,
    scores_rpg: Sequence[np.ndarray],
    settings: PruningSettings,
    category: str,
) -> np.ndarray:
    """Cut both cells of each pair to the best genes of their union, and predict them.

    Of a pair with the union U both cells keep what they have of the round((1 - ratio)·|U|) genes
    that score highest ("lowest_first") or lowest ("highest_first").

    Parameters
    ----------
    model
        In evaluation mode; decides the device.
    members
        Whole cells: the inputs of all pairs and then their baselines, in the order of the pairs.
    scores_rpg
        Of each ranking (pairs, genes) scores; of genes outside the union they are not looked at.
    settings
        Grid, removal and size of batches.
    category
        What is predicted.

    Returns
    -------
    numpy.ndarray
        (1 + rankings x points, members, labels) probabilities: whole cells, then by ranking the
        points of `settings.points`.
    """
    n_pairs, n_genes = len(members) // 2, len(model.vocabulary.genes)
    members = members.compact()
    union_pg = _union(members, n_genes)
    size_p = union_pg.sum(axis=1)
    pair_m = np.tile(np.arange(n_pairs), 2)
    whole_m = np.zeros(2 * n_pairs, dtype=np.int64)
    entries = [(pair_m, whole_m, whole_m + n_genes)]
    for r in range(len(scores_rpg)):
        for order, ratio in settings.points:
            low_p, high_p = np.array([window(order, ratio, int(n)) for n in size_p]).T
            entries.append((r * n_pairs + pair_m, low_p[pair_m], high_p[pair_m]))
    order_v, low_v, high_v = (
        torch.from_numpy(np.concatenate(x)) for x in zip(*entries, strict=True)
    )
    places = [union_places(score_pg, union_pg) for score_pg in scores_rpg]
    place_og = np.concatenate(places or [np.zeros((n_pairs, n_genes), dtype=np.int32)])
    cells = CellCuts(
        members, torch.from_numpy(place_og), settings.removal, model.vocabulary.mask_id
    )
    cuts = Cuts(torch.arange(2 * n_pairs).repeat(len(entries)), order_v, low_v, high_v)
    p_vc = predict_cuts(model, cells, cuts, category, settings.batch_tokens)
    return p_vc.reshape(len(entries), 2 * n_pairs, -1)


def union_places(score_pg: np.ndarray, union_pg: np.ndarray) -> np.ndarray:
    """(pairs, genes) int32: the place of each gene in the union of its pair, from 0 for the best.

    Ties are in the order of the panel, and not of the blended sequence, which lists shared genes
    first. Genes outside the union come after all others.
    """
    key_pg = np.where(union_pg, -score_pg, np.inf)
    order_pg = np.argsort(key_pg, axis=1, kind="stable")
    place_pg = np.empty(order_pg.shape, dtype=np.int32)
    every_g = np.arange(order_pg.shape[1], dtype=np.int32)
    np.put_along_axis(place_pg, order_pg, np.broadcast_to(every_g, order_pg.shape), axis=1)
    return place_pg


def _union(members: TokenBatch, n_genes: int) -> np.ndarray:
    """(pairs, genes) bool: genes of either cell."""
    n_pairs = len(members) // 2
    union_pg = np.zeros((n_pairs, n_genes + 1), dtype=bool)
    genes_mt = members.gene_ids_nt.numpy(force=True)
    row_m = np.tile(np.arange(n_pairs), 2)
    union_pg[row_m[:, None], np.where(genes_mt < 0, n_genes, genes_mt)] = True
    return union_pg[:, :n_genes]
