"""A model that adds up its genes, and single pairs for it: everything is known by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradgene.attribution import Target
from gradgene.evaluation import (
    AopcLimits,
    Removal,
    SwapGap,
    Swaps,
    read_attainable_aopc,
    read_random_swaps,
    read_removal,
    read_swap_gap,
    reading,
)
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import TokenBatch
from tests.attribution.toys import VOCABULARY, cells_of

__all__ = [
    "LABELS",
    "attainable_aopc",
    "contributions",
    "linear",
    "pair",
    "random_swaps",
    "removal",
    "scored",
    "swap_gap",
]

LABELS = torch.tensor([[7, 4], [7, 5]])


class Sum(nn.Module):
    """`f = 3 g0 - g1 + 2 g2 + …` over the genes that are present."""

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.vocabulary, self.classified = VOCABULARY, None
        self.weight = nn.Parameter(torch.zeros(VOCABULARY.n_types, dtype=torch.float64))
        first = VOCABULARY.gene_offset
        self.weight.data[first : first + len(weights)] = torch.tensor(weights).double()

    def embed(self, tokens: TokenBatch) -> Tensor:
        bin_nt = (tokens.input_ids_nt - VOCABULARY.bin_offset).clamp(min=0)
        return (bin_nt * self.weight[tokens.token_type_ids_nt])[..., None]

    def read(self, embeddings_ntd: Tensor, mask_nt: Tensor, category: str) -> Tensor:
        sum_n = (embeddings_ntd[..., 0] * mask_nt).sum(dim=1)
        logits_nv = sum_n.new_zeros(len(sum_n), VOCABULARY.n_values)
        logits_nv[:, VOCABULARY.label_id("disease", "case")] = sum_n
        return logits_nv


def linear(*weights: float) -> PhenotypeGeneTransformer:
    """The sum with these weights of g0, g1 …; weights 0 for the others."""
    return Sum(weights)  # type: ignore[return-value]


def pair(
    genes_i: list[int], bins_i: list[int], genes_b: list[int], bins_b: list[int]
) -> BlendedBatch:
    """One pair that differs in nothing but its genes."""
    cells = cells_of([genes_i, genes_b], [bins_i, bins_b], LABELS)
    return blend(cells, torch.tensor([0]), torch.tensor([1]))


def scored(blended: BlendedBatch, of_gene: dict[int, float]) -> Tensor:
    """These scores at the positions of these genes, something odd at all others."""
    scores_pt = torch.full(blended.gene_ids_pt.shape, -7.5, dtype=torch.float64)
    for gene, score in of_gene.items():
        scores_pt[blended.gene_ids_pt == gene] = score
    return scores_pt


def contributions(model: PhenotypeGeneTransformer, blended: BlendedBatch) -> Tensor:
    """(pairs, positions) what each gene gives to f_input - f_baseline of a `linear` model."""
    given = [
        model.embed(member)[..., 0] * member.attention_mask_nt
        for member in (blended.input, blended.baseline)
    ]
    return (given[0] - given[1]).detach()


Model = PhenotypeGeneTransformer


def swap_gap(
    model: Model, blended: BlendedBatch, f: Target, scores_pt: Tensor, batch_tokens: int = 8192
) -> SwapGap:
    """One measure of one reading."""
    with reading(model, blended, f, batch_tokens) as reader:
        return read_swap_gap(reader, scores_pt)


def random_swaps(
    model: Model,
    blended: BlendedBatch,
    f: Target,
    n_sets: int = 27,
    seed: int = 0,
    batch_tokens: int = 8192,
) -> Swaps:
    """One measure of one reading."""
    with reading(model, blended, f, batch_tokens) as reader:
        return read_random_swaps(reader, n_sets, seed)


def removal(
    model: Model, blended: BlendedBatch, f: Target, scores_pt: Tensor, batch_tokens: int = 8192
) -> Removal:
    """One measure of one reading of the inputs."""
    with reading(model, blended.without_baseline_genes(), f, batch_tokens) as reader:
        return read_removal(reader, scores_pt)


def attainable_aopc(
    model: Model, blended: BlendedBatch, f: Target, batch_tokens: int = 8192
) -> AopcLimits:
    """One measure of one reading of the inputs."""
    with reading(model, blended.without_baseline_genes(), f, batch_tokens) as reader:
        return read_attainable_aopc(reader)
