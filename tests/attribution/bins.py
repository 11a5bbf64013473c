"""A model that is any function of the bins of a cell's genes, and pairs of known bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import TokenBatch
from tests.attribution.toys import N_GENES, VOCABULARY, cells_of

__all__ = ["CASE", "CONTROL", "FEMALE", "Of", "model_of", "pair_of"]

CASE, CONTROL, FEMALE = 4, 5, 7
Of = Callable[[Tensor], Tensor]


class OfBins(nn.Module):
    """The logit of `case` is a function of the bins (cells, genes), 0 where a gene is absent."""

    def __init__(self, of: Of) -> None:
        super().__init__()
        self.vocabulary, self.classified, self.of = VOCABULARY, "disease", of
        self.size = {"activation": "gelu"}
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def embed(self, tokens: TokenBatch) -> Tensor:
        bin_nt = (tokens.input_ids_nt - VOCABULARY.bin_offset).clamp(min=0).double()
        gene_nt = tokens.token_type_ids_nt - VOCABULARY.gene_offset
        axis_ntg = nn.functional.one_hot(gene_nt.clamp(min=0), N_GENES) * (gene_nt >= 0)[..., None]
        return bin_nt[..., None] * axis_ntg

    def read(self, x_ntd: Tensor, mask_nt: Tensor, category: str) -> Tensor:
        case_v = torch.zeros(VOCABULARY.n_values, dtype=torch.float64)
        case_v[CASE] = 1
        return self.of((x_ntd * mask_nt[..., None]).sum(dim=1))[:, None] * case_v


def model_of(of: Of) -> PhenotypeGeneTransformer:
    return OfBins(of)  # type: ignore[return-value]


def pair_of(*bins: Sequence[int]) -> BlendedBatch:
    """One pair of an input and a baseline with these bins of the first genes; 0 is no token.

    Both have the last gene, because no cell is without any.
    """
    genes = [[g for g, b in enumerate(of_cell) if b] + [N_GENES - 1] for of_cell in bins]
    expressed = [[b for b in of_cell if b] + [1] for of_cell in bins]
    labels = torch.tensor([[FEMALE, CASE], [FEMALE, CONTROL]])
    cells = cells_of(genes, expressed, labels)
    return blend(cells, torch.tensor([0]), torch.tensor([1]))
