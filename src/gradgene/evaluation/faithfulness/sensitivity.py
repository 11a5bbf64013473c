"""Sensitivity: how much the scores change when a few of the input's bins do.

Formula
    max over y of |a(y) - a(x)| / |a(x)|, Euclidean norms over the genes of a pair; y is the input
    with a random twentieth of its genes, at least one, one bin higher or lower. The lowest bin only
    rises and the highest only falls, so that no gene appears or goes.
Source
    Yeh et al. 2019 (SENS_MAX), in the relative form that Captum and Quantus use; their y lies in a
    ball of real numbers, where an expression bin can only step.
What it shows
    Lower is better, but only beside the other measures: scores that do not look at the cell have 0.
    One bin can matter to the model, so the best value is not 0. The maximum is over few draws,
    which can only understate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gradgene.errors import AttributionError
from gradgene.evaluation.faithfulness.orders import first_genes, gene_ranks
from gradgene.pairs import BlendedBatch
from gradgene.tokens import Vocabulary

__all__ = ["max_sensitivity", "with_moved_bins"]

#: Share of the input's genes whose bin moves, in percent.
MOVED_PERCENT = 5


def max_sensitivity(
    explain: Callable[[BlendedBatch], Tensor],
    blended: BlendedBatch,
    vocabulary: Vocabulary,
    n_draws: int = 4,
    seed: int = 0,
) -> Tensor:
    """(pairs,) float64 on the CPU: the largest relative change of scores; NaN of scores all 0.

    Parameters
    ----------
    explain
        Scores (pairs, positions) of pairs; only those of genes are looked at.
    blended
        The pairs.
    vocabulary
        Its expression bins.
    n_draws
        How often bins are moved.
    seed
        Another seed moves other bins.

    Raises
    ------
    AttributionError
        If there are no two bins to move between.
    """
    draw = torch.Generator().manual_seed(seed)
    is_gene_pt = blended.gene_ids_pt >= 0

    def scores(pairs: BlendedBatch) -> Tensor:
        return explain(pairs).detach().double().masked_fill(~is_gene_pt, 0)

    before_pt = scores(blended)
    change_p = torch.zeros(len(blended), dtype=torch.float64, device=before_pt.device)
    for _ in range(n_draws):
        moved_pt = scores(with_moved_bins(blended, vocabulary, draw))
        change_p = torch.maximum(change_p, (moved_pt - before_pt).norm(dim=1))
    norm_p = before_pt.norm(dim=1)
    return (change_p / torch.where(norm_p > 0, norm_p, torch.nan)).cpu()


def with_moved_bins(
    blended: BlendedBatch, vocabulary: Vocabulary, draw: torch.Generator
) -> BlendedBatch:
    """The same pairs with a few genes of each input cell one bin higher or lower.

    Raises
    ------
    AttributionError
        If there are no two bins to move between.
    """
    lowest, highest = vocabulary.bin_offset + 1, vocabulary.bin_offset + len(vocabulary.bins)
    if lowest == highest:
        raise AttributionError(
            "one bin leaves nothing to move", where="data.bin_edges", expected="two bins or more"
        )
    cells, device = blended.cells, blended.gene_ids_pt.device
    is_input_n = torch.zeros(len(cells), dtype=torch.bool, device=device)
    is_input_n[blended.input_rows_p] = True
    gene_ids_nt = cells.gene_ids_nt.masked_fill(~is_input_n[:, None], -1)
    key_nt, up_nt = (torch.rand(gene_ids_nt.shape, generator=draw).to(device) for _ in range(2))
    rank_nt = gene_ranks(key_nt, gene_ids_nt)
    moved_nt = first_genes(rank_nt, gene_ids_nt, [MOVED_PERCENT], at_least=1)[0]
    ids_nt = cells.input_ids_nt
    step_nt = torch.where(up_nt < 0.5, 1, -1)
    step_nt = torch.where(ids_nt == lowest, 1, torch.where(ids_nt == highest, -1, step_nt))
    ids_nt = torch.where(moved_nt, ids_nt + step_nt, ids_nt)
    return blended.with_cells(replace(cells, input_ids_nt=ids_nt))
