"""A model that is a power of a weighted sum of bins, whose path integral is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import TokenBatch
from tests.attribution.toys import VOCABULARY, cells_of

__all__ = ["POWERS", "f_of_bins", "gain_of_bins", "polynomial_pairs"]

POWERS = (1, 2, 3, 4, 6)
CASE, CONTROL, FEMALE = 4, 5, 7
GENES = (0, 1, 2)
WEIGHTS = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
INPUTS = torch.tensor([[4, 1, 2], [1, 2, 3]], dtype=torch.float64)
BASELINES = torch.tensor([[1, 3, 1], [4, 1, 1]], dtype=torch.float64)


class Power(nn.Module):
    """Logit of `case` (Σ_g w_g bin_g)^power, all others 0; a token is its bin on one axis."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.vocabulary, self.classified, self.power = VOCABULARY, "disease", power
        self.weight = nn.Parameter(WEIGHTS)

    def embed(self, tokens: TokenBatch) -> Tensor:
        bins_nt = (tokens.input_ids_nt - VOCABULARY.bin_offset).clamp(min=0)
        return bins_nt.double()[..., None]

    def read(self, x_ntd: Tensor, mask_nt: Tensor, category: str) -> Tensor:
        header = 1 + len(VOCABULARY.phenotypes)
        sum_n = x_ntd[:, header : header + len(GENES), 0] @ self.weight
        case_v = torch.zeros(VOCABULARY.n_values, dtype=torch.float64)
        case_v[CASE] = 1
        return sum_n[:, None] ** self.power * case_v


def polynomial_pairs(
    power: int,
) -> tuple[PhenotypeGeneTransformer, BlendedBatch, tuple[Tensor, Tensor]]:
    """Model, pairs and the bins (pairs, genes) of inputs and baselines."""
    bins = torch.cat([INPUTS, BASELINES])
    labels = torch.tensor([[FEMALE, CASE], [FEMALE, CASE], [FEMALE, CONTROL], [FEMALE, CONTROL]])
    cells = cells_of([GENES] * len(bins), bins.long().tolist(), labels)
    pairs = blend(cells, torch.tensor([0, 1]), torch.tensor([2, 3]))
    return Power(power), pairs, (INPUTS, BASELINES)  # type: ignore[return-value]


def f_of_bins(bins_pg: Tensor, power: int) -> Tensor:
    """f (pairs,)."""
    return (bins_pg @ WEIGHTS) ** power


def gain_of_bins(bins: tuple[Tensor, Tensor], power: int) -> Tensor:
    """Exact scores (pairs, positions): of the rise of f, each gene's share in the rise of Σ w bin.

    On a straight path all bins rise in proportion, so that the shares do not depend on the way.
    """
    rise_pg = WEIGHTS * (bins[0] - bins[1])
    gain_p = f_of_bins(bins[0], power) - f_of_bins(bins[1], power)
    scores_pg = gain_p[:, None] * rise_pg / rise_pg.sum(dim=1, keepdim=True)
    header = 1 + len(VOCABULARY.phenotypes)
    return nn.functional.pad(scores_pg, (header, 1))
