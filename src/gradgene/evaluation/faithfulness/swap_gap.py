"""Swap-gap: does the model follow the genes that the scores name?

Formula
    Genes of the input take the baseline's state, at 0, 10 … 100 % of the pair's union of genes, in
    the order of score x sign(f_input - f_baseline): once the highest first, once the lowest.
    gap_p = sign(f_input - f_baseline) x mean over the 11 fractions of (f lowest first - f highest
    first). The swap-gap of many pairs is Σ gap_p / Σ |f_input - f_baseline|.
Source
    Spec 0 §9. Random scores give about 0, higher is better, and there is no upper bound: genes
    that speak against the label may carry f beyond f_input.
What is swapped
    Genes only. Phenotype and special tokens stay the input's throughout, while f_baseline is the
    baseline's own with its own phenotypes; matched pairs agree in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradgene.errors import AttributionError
from gradgene.evaluation.faithfulness.orders import check_scores, first_genes, gene_ranks
from gradgene.evaluation.faithfulness.per_pair import PerPair, ratio, ratio_interval
from gradgene.evaluation.faithfulness.reading import PairReader

__all__ = ["FRACTIONS", "SwapGap", "read_swap_gap"]

#: The eleven steps of the swap in whole numbers, which round the same way everywhere.
PERCENTS = tuple(range(0, 101, 10))
#: Shares of a pair's genes that have been swapped.
FRACTIONS = tuple(percent / 100 for percent in PERCENTS)


@dataclass(frozen=True)
class SwapGap(PerPair):
    """What swapping genes did to f, pair by pair, in the units of f; all float64 on the CPU.

    Attributes
    ----------
    gap_p
        (pairs,) how much longer f stays with the input if the lowest scores go first; higher is
        better, 0 where f_input = f_baseline.
    change_p
        (pairs,) |f_input - f_baseline|.
    f_lowest_first_pk, f_highest_first_pk
        (pairs, fractions) f after the swaps, at each of `FRACTIONS`.
    """

    gap_p: Tensor
    change_p: Tensor
    f_lowest_first_pk: Tensor
    f_highest_first_pk: Tensor

    def __post_init__(self) -> None:
        shape = (len(self.gap_p), len(FRACTIONS))
        if {self.f_lowest_first_pk.shape, self.f_highest_first_pk.shape} != {shape}:
            raise AttributionError("gaps and curves differ in shape", expected=str(shape))
        if self.change_p.shape != self.gap_p.shape:
            raise AttributionError("gaps and changes differ in shape")

    @property
    def ratio(self) -> float:
        """Σ gap / Σ |f_input - f_baseline| over all pairs; NaN if f never differs."""
        return ratio(self.gap_p, self.change_p)

    def interval(
        self, donors_p: Tensor | np.ndarray | None = None, level: float = 0.95
    ) -> tuple[float, float]:
        """Bounds of the ratio over pairs, or over donors where they are given; `ratio_interval`."""
        return ratio_interval(self.gap_p, self.change_p, donors_p, level)


def read_swap_gap(reader: PairReader, scores_pt: Tensor) -> SwapGap:
    """Swap the genes of each pair in the order of its scores, both ways, and read f.

    Equal scores are swapped in the order of gene ids both ways, so the order in which genes lie
    plays no part and scores that say nothing have a gap of exactly 0.

    Parameters
    ----------
    reader
        Of `reading`, which several measures and methods can share; its f is that of the scores.
    scores_pt
        (pairs, positions) signed scores of the input against the baseline, in any unit; only their
        order and those of genes count.

    Raises
    ------
    AttributionError
        If scores and pairs differ in shape or a gene's score is not finite.
    """
    gene_ids_pt = reader.gene_ids_pt
    check_scores(scores_pt, gene_ids_pt)
    all_pt = torch.ones_like(gene_ids_pt, dtype=torch.bool)
    f_input_p, f_baseline_p = reader.read(torch.stack([~all_pt, all_pt])).unbind()
    sign_p = (f_input_p - f_baseline_p).sign()
    sign_p1 = sign_p.to(gene_ids_pt.device)[:, None]
    towards_pt = scores_pt.detach().to(gene_ids_pt.device, torch.float64) * sign_p1
    lowest, highest = (
        reader.read(first_genes(gene_ranks(key_pt, gene_ids_pt), gene_ids_pt, PERCENTS)).T
        for key_pt in (towards_pt, -towards_pt)
    )
    return SwapGap(
        gap_p=sign_p * (lowest - highest).mean(dim=1),
        change_p=(f_input_p - f_baseline_p).abs(),
        f_lowest_first_pk=lowest,
        f_highest_first_pk=highest,
    )
