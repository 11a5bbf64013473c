"""In which order the genes of each pair change, whatever the order of their positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradgene.errors import AttributionError

__all__ = ["check_scores", "first_genes", "gene_ranks"]


def check_scores(scores_pt: Tensor, gene_ids_pt: Tensor) -> None:
    """Raise `AttributionError` unless there is a finite score for every gene of every pair."""
    if scores_pt.shape != gene_ids_pt.shape:
        raise AttributionError(
            "scores and pairs differ in shape",
            expected=str(tuple(gene_ids_pt.shape)),
            found=str(tuple(scores_pt.shape)),
        )
    if not bool(scores_pt[gene_ids_pt >= 0].isfinite().all()):
        raise AttributionError("genes have NaN or infinite scores, which have no order")


def gene_ranks(key_pt: Tensor, gene_ids_pt: Tensor) -> Tensor:
    """(pairs, positions) rank of each position from 0, the lowest key first.

    Equal keys stand in the order of gene ids; positions without a gene (id -1) come last.
    """
    is_gene_pt = gene_ids_pt >= 0
    # Two stable sorts: by gene id, then by key.
    by_id_pt = gene_ids_pt.argsort(dim=1, stable=True)
    # Plus 0, as a sort of bits takes -0 for less than 0.
    key_pt = (key_pt + 0.0).masked_fill(~is_gene_pt, torch.inf).gather(1, by_id_pt)
    order_pt = by_id_pt.gather(1, key_pt.argsort(dim=1, stable=True))
    return order_pt.argsort(dim=1)


def first_genes(
    rank_pt: Tensor, gene_ids_pt: Tensor, percents: Sequence[int], at_least: int = 0
) -> Tensor:
    """(percents, pairs, positions) bool: the genes of the lowest ranks, such shares of them.

    Shares are rounded to whole genes, halves up; of more than 0 % at least `at_least` genes.
    """
    is_gene_pt = gene_ids_pt >= 0
    percent_k = torch.tensor(percents, device=rank_pt.device)
    n_kp = (percent_k[:, None] * is_gene_pt.sum(dim=1) + 50) // 100
    n_kp = torch.where(percent_k[:, None] > 0, n_kp.clamp(min=at_least), n_kp)
    return (rank_pt < n_kp[..., None]) & is_gene_pt
