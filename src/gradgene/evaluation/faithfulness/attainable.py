"""How low and how high AOPC can be on a model, whoever makes the order: AOPC normalised.

Formula
    normalised AOPC = (AOPC - lowest) / (highest - lowest), pair by pair, then the mean: 0 is the
    worst order there is for this model and cell and 1 the best, so that models can be compared.
Source
    Edin et al. 2025 (Normalized AOPC), who find the limits by trying all orders of few tokens, or
    by a beam search over single removals.
What is done here
    Orders cannot all be tried for hundreds of genes. A greedy search, a beam of width 1, reads f
    without each gene that is left, removes a fifth of the genes at once in the order of what that
    did to f, those that lower it most (highest) or least (lowest) first, and begins again. Orders
    of the methods compared count as found, too. So the limits lie inside the true ones: the
    normalised value of a method is never outside 0 … 1, but what is called 1 here may fall short of
    the best order there is, and comparing with a further method can move the limits. Where the
    genes' effects add up the search is exact. It reads f about 6 times a gene and pair, so a few
    pairs must do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.evaluation.faithfulness.per_pair import PerPair
from gradgene.evaluation.faithfulness.reading import PairReader
from gradgene.evaluation.faithfulness.removal import STEP_PERCENTS, own_genes

__all__ = ["AopcLimits", "normalised_aopc", "read_attainable_aopc"]

#: Steps of AOPC between two looks at every gene that is left.
STEPS_A_ROUND = 2


@dataclass(frozen=True)
class AopcLimits(PerPair):
    """(pairs,) the lowest and the highest AOPC found, in the units of f; float64 on the CPU."""

    lowest_p: Tensor
    highest_p: Tensor


def read_attainable_aopc(reader: PairReader) -> AopcLimits:
    """Search for the orders of removal that lower f the most and the least.

    `reader` is of `blended.without_baseline_genes()`: only the inputs count.
    """
    n_pairs = len(reader.members)
    found = []
    for i in range(n_pairs):
        one = reader.take(torch.tensor([i], device=reader.gene_ids_pt.device))
        falls = [_greedy(one, highest) for highest in (False, True)]
        found.append((min(falls), max(falls)))
    lowest_p, highest_p = torch.tensor(found, dtype=torch.float64).T
    return AopcLimits(lowest_p, highest_p)


def normalised_aopc(aopc_mp: Mapping[str, Tensor], limits: AopcLimits) -> dict[str, Tensor]:
    """(pairs,) of each method: 0 at the lowest AOPC and 1 at the highest; NaN where both are equal.

    Parameters
    ----------
    aopc_mp
        Method -> (pairs,) AOPC, of the pairs of `limits`; their orders count as found.
    limits
        What a search found.
    """
    every = torch.stack([limits.lowest_p, limits.highest_p, *aopc_mp.values()])
    lowest_p, range_p = every.amin(dim=0), every.amax(dim=0) - every.amin(dim=0)
    range_p = torch.where(range_p > 0, range_p, torch.nan)
    return {name: (aopc_p - lowest_p) / range_p for name, aopc_p in aopc_mp.items()}


def _greedy(reader: PairReader, highest: bool) -> float:
    """AOPC of one pair when f is lowered as much (or as little) as each round can."""
    gene_t = own_genes(reader)[0]
    left = gene_t.argsort()[int((gene_t < 0).sum()) :]  # positions in the order of gene ids
    n_genes, removed_t = len(left), torch.zeros_like(gene_t, dtype=torch.bool)
    states = [removed_t]
    for start in range(0, len(STEP_PERCENTS) - 1, STEPS_A_ROUND):
        left = left[~removed_t[left]]
        ordered = _ordered(reader, removed_t, left, highest)
        for percent in STEP_PERCENTS[start + 1 : start + 1 + STEPS_A_ROUND]:
            n_removed = max(1, (percent * n_genes + 50) // 100)
            removed_t = removed_t.clone()
            removed_t[ordered[: n_removed - n_genes + len(left)]] = True
            states.append(removed_t)
    f_k = reader.read(torch.stack(states)[:, None])[:, 0]
    return float(f_k[0] - f_k.mean())


def _ordered(reader: PairReader, removed_t: Tensor, left: Tensor, highest: bool) -> Tensor:
    """The positions `left`, those first whose removal alone lowers f most (or least)."""
    if len(left) < 2:
        return left
    tried_ct = removed_t.repeat(len(left), 1)
    tried_ct[torch.arange(len(left), device=left.device), left] = True
    f_c = reader.read(tried_ct[:, None])[:, 0]
    return left[f_c.argsort(descending=not highest, stable=True).to(left.device)]
