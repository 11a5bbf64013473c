"""Infidelity: do the scores of a set of genes add up to what swapping the set does to f?

Formula
    E over I of (I·a - (f(x) - f(x - I)))², with a the scores, and I a random set of the pair's
    genes of which the input takes the baseline's state; I·a is then the sum of the set's scores.
    Sets hold 10, 20 … 90 % of the union of the pair's genes, as many of each size, drawn with
    equal chances.
    Scaled: the same with b a in place of a, b >= 0 the best factor of each pair, summed over pairs
    and divided by the sum of E (f(x) - f(x - I))²; 0 is perfect, 1 what scores of nothing have, and
    the unit of scores plays no part.
Source
    Yeh et al. 2019, whose perturbation is the user's choice; their I is a difference of inputs and
    a gradient-like score is multiplied with it, where scores here are contributions already. The
    factor is theirs as well; it is kept from being negative here, which would reward scores that
    say the opposite.
What it shows
    Lower is better, and scores that add up on a linear model have 0. Scores that are nothing but
    positive do well without telling genes apart, for larger sets change f more: see `expression`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.evaluation.faithfulness.orders import check_scores, first_genes, gene_ranks
from gradgene.evaluation.faithfulness.per_pair import PerPair
from gradgene.evaluation.faithfulness.reading import PairReader

__all__ = ["Infidelity", "Swaps", "infidelity", "read_random_swaps"]

#: Shares of the pair's genes that a set holds, in percent.
SET_PERCENTS = tuple(range(10, 100, 10))


@dataclass(frozen=True)
class Swaps:
    """Random sets of genes and what swapping them does, the same for every method.

    Attributes
    ----------
    swapped_kpt
        (sets, pairs, positions) bool, on the CPU.
    fall_kp
        (sets, pairs) float64: f of the input less f after the swap.
    gene_ids_pt
        (pairs, positions) gene of each position.
    """

    swapped_kpt: Tensor
    fall_kp: Tensor
    gene_ids_pt: Tensor


@dataclass(frozen=True)
class Infidelity(PerPair):
    """Means over the sets of each pair, in squared units of f; float64 on the CPU.

    Attributes
    ----------
    error_p
        (pairs,) infidelity.
    scaled_error_p
        (pairs,) infidelity of the scores times the best factor that is not negative.
    change_p
        (pairs,) mean squared change of f: the error of scores that are all 0.
    """

    error_p: Tensor
    scaled_error_p: Tensor
    change_p: Tensor


def read_random_swaps(reader: PairReader, n_sets: int, seed: int) -> Swaps:
    """Draw sets of genes for each pair and read f with them swapped.

    Parameters
    ----------
    reader
        Of `reading`, which several measures can share.
    n_sets
        Sets a pair; their sizes take turns.
    seed
        Another seed draws other sets.
    """
    gene_ids_pt = reader.gene_ids_pt.cpu()
    draw = torch.Generator().manual_seed(seed)
    sets = []
    for k in range(n_sets):
        rank_pt = gene_ranks(torch.rand(gene_ids_pt.shape, generator=draw), gene_ids_pt)
        percent = SET_PERCENTS[k % len(SET_PERCENTS)]
        sets.append(first_genes(rank_pt, gene_ids_pt, [percent], at_least=1)[0])
    nothing_pt = torch.zeros_like(gene_ids_pt, dtype=torch.bool)
    f_kp = reader.read(torch.stack([nothing_pt, *sets]).to(reader.gene_ids_pt.device))
    return Swaps(torch.stack(sets), f_kp[0] - f_kp[1:], gene_ids_pt)


def infidelity(swaps: Swaps, scores_pt: Tensor) -> Infidelity:
    """Compare sums of scores with what swapping the sets did.

    Parameters
    ----------
    swaps
        Sets and their effects.
    scores_pt
        (pairs, positions) signed contributions of the input's genes against the baseline, in the
        units of f.

    Raises
    ------
    AttributionError
        If scores and pairs differ in shape or a gene's score is not finite.
    """
    scores_pt = scores_pt.detach().to("cpu", torch.float64)
    check_scores(scores_pt, swaps.gene_ids_pt)
    # Before the sum: what stands at other positions may be NaN.
    scores_pt = scores_pt.masked_fill(swaps.gene_ids_pt < 0, 0)
    sum_kp = (swaps.swapped_kpt * scores_pt).sum(dim=2)
    square_p = sum_kp.square().sum(dim=0)
    factor_p = (sum_kp * swaps.fall_kp).sum(dim=0) / torch.where(square_p > 0, square_p, 1)
    scaled_kp = factor_p.clamp(min=0) * sum_kp
    return Infidelity(
        error_p=(sum_kp - swaps.fall_kp).square().mean(dim=0),
        scaled_error_p=(scaled_kp - swaps.fall_kp).square().mean(dim=0),
        change_p=swaps.fall_kp.square().mean(dim=0),
    )
