"""Which tokens of a cell are hidden while pretraining, and what the model is asked there.

All chance comes from a seed a cell (`cell_seeds`), so that what is hidden depends neither on the
batch a cell is in nor on the process or device that computes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradgene.errors import ConfigError
from gradgene.seeding import GOLDEN, shifted_right, splitmix64
from gradgene.tokens.batch import TokenBatch
from gradgene.tokens.vocabulary import Vocabulary

__all__ = ["IGNORED", "MaskedTokens", "cell_seeds", "mask_tokens", "uniform"]

#: Label of a token that the model is not asked about; torch's own convention.
IGNORED = -100


@dataclass(frozen=True)
class MaskedTokens:
    """Name masked genes' bins and masked phenotypes' labels among all input ids.

    Parameters
    ----------
    gene_rate, phenotype_rate
        Probability of a gene, and of a known label, to become `[MASK]`.
    dropped_rate
        Share of the masked phenotypes that are taken out instead: `[PAD]` without a type, still
        attended to and not asked for, so that the model knows cells with missing phenotypes.
    absent_rate
        Share of cells in which some masked genes are exchanged for a gene the cell does not
        express, whose label is `bin_0`. There it befalls one in 1 / ((n + 1) absent_rate) masked
        genes, so that `bin_0` is as frequent among the labels as one of the n bins; 0 for never.
    label_smoothing
        Share of probability spread over all input ids.
    phenotype_weight
        How many masked genes a masked phenotype weighs in the loss. A cell has so many more genes
        that with 1, as published, thousands of cells are too few to learn its labels from.

    Raises
    ------
    ConfigError
        For a rate that is no probability, a weight below 0, or if nothing is ever masked.
    """

    gene_rate: float = 0.15
    phenotype_rate: float = 0.5
    dropped_rate: float = 0.1
    absent_rate: float = 0.9
    label_smoothing: float = 0.5
    phenotype_weight: float = 1.0

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            if rate < 0 or (rate > 1 and name != "phenotype_weight"):
                raise ConfigError(
                    "is out of range",
                    where=f"objective.{name}",
                    expected="0 or more" if name == "phenotype_weight" else "in [0, 1]",
                    found=str(rate),
                )
        if self.gene_rate == self.phenotype_rate == 0 or self.label_smoothing == 1:
            raise ConfigError(
                "leaves nothing to learn",
                where="objective",
                expected="gene_rate or phenotype_rate > 0, label_smoothing < 1",
                found=str(self),
            )

    def loss(
        self, logits_mv: Tensor, labels_m: Tensor, vocabulary: Vocabulary
    ) -> tuple[Tensor, Tensor]:
        """Sum of the weighted losses of m masked tokens over the input ids, and of the weights."""
        loss_m = F.cross_entropy(
            logits_mv.float(), labels_m, label_smoothing=self.label_smoothing, reduction="none"
        )
        first, last = vocabulary.bin_offset, vocabulary.bin_offset + len(vocabulary.bins)
        is_gene_m = (labels_m >= first) & (labels_m <= last)
        weight_m = torch.where(is_gene_m, 1.0, self.phenotype_weight)
        return (weight_m * loss_m).sum(), weight_m.sum()


def mask_tokens(
    tokens: TokenBatch, vocabulary: Vocabulary, masking: MaskedTokens, seeds_n: Tensor
) -> tuple[TokenBatch, Tensor]:
    """Hide genes and phenotypes as the published models were trained.

    Parameters
    ----------
    tokens
        Whole cells.
    vocabulary
        Theirs.
    masking
        The rates.
    seeds_n
        (cells,) int64 from `cell_seeds`.

    Returns
    -------
    The masked batch and labels_nt (cells, tokens): the input id asked for, or `IGNORED`. A label
    that is missing in the data is never asked for.
    """
    draw = partial(uniform, seeds_n)
    length = tokens.input_ids_nt.shape[1]
    is_gene_nt = tokens.gene_ids_nt >= 0
    masked_nt = is_gene_nt & (draw(length, 0) < masking.gene_rate)
    dropped_nt = torch.zeros_like(masked_nt)
    slots = [vocabulary.slot(c) for c in vocabulary.phenotypes]
    phenotype_nc = _known(tokens, vocabulary, slots) & (
        draw(len(slots), 1) < masking.phenotype_rate
    )
    masked_nt[:, slots] = phenotype_nc
    dropped_nt[:, slots] = phenotype_nc & (draw(len(slots), 2) < masking.dropped_rate)
    labels_nt = tokens.input_ids_nt.masked_fill(~masked_nt | dropped_nt, IGNORED)
    types_nt = tokens.token_type_ids_nt.masked_fill(dropped_nt, 0)
    ids_nt = tokens.input_ids_nt.masked_fill(masked_nt, vocabulary.mask_id)
    ids_nt = ids_nt.masked_fill(dropped_nt, vocabulary.pad_id)
    gene_ids_nt = tokens.gene_ids_nt
    if masking.absent_rate:
        rate = 1 / (len(vocabulary.bins) + 1) / masking.absent_rate
        chosen_n1 = draw(1, 3) < masking.absent_rate
        swapped_nt = masked_nt & is_gene_nt & chosen_n1 & (draw(length, 4) < rate)
        absent_nt = _absent_genes(gene_ids_nt, len(vocabulary.genes), draw(length, 5))
        swapped_nt &= (absent_nt >= 0) & ~_repeated(absent_nt, swapped_nt)
        gene_ids_nt = torch.where(swapped_nt, absent_nt, gene_ids_nt)
        types_nt = torch.where(swapped_nt, vocabulary.gene_offset + absent_nt, types_nt)
        labels_nt = labels_nt.masked_fill(swapped_nt, vocabulary.bin_offset)
    masked = replace(
        tokens, input_ids_nt=ids_nt, token_type_ids_nt=types_nt, gene_ids_nt=gene_ids_nt
    )
    return masked, labels_nt


def _known(tokens: TokenBatch, vocabulary: Vocabulary, slots: list[int]) -> Tensor:
    """(cells, phenotypes) bool: the cell's label is known."""
    no_label = [vocabulary.missing_id(c) for c in vocabulary.phenotypes]
    ids_nc = tokens.input_ids_nt[:, slots]
    blank_c = torch.tensor(no_label, device=ids_nc.device)
    return (ids_nc != blank_c) & (ids_nc != vocabulary.mask_id)


def _absent_genes(gene_ids_nt: Tensor, n_genes: int, uniform_nt: Tensor) -> Tensor:
    """For each position a uniform draw among the genes the cell does not hold; -1 if there is none.

    The r-th absent gene is r plus the number of present genes before it. With the present genes
    e_0 < e_1 < … these are the j for which e_j - j <= r.
    """
    length = gene_ids_nt.shape[1]
    place_t = torch.arange(length, device=gene_ids_nt.device)
    present_nt = gene_ids_nt >= 0
    sorted_nt = gene_ids_nt.masked_fill(~present_nt, n_genes + length).sort(dim=1).values
    n_present_n1 = present_nt.sum(dim=1, keepdim=True)
    before_nt = (sorted_nt - place_t).masked_fill(place_t >= n_present_n1, n_genes + length)
    n_absent_n1 = n_genes - n_present_n1
    rank_nt = (uniform_nt * n_absent_n1).long().clamp(max=n_absent_n1 - 1)
    found_nt = rank_nt + torch.searchsorted(before_nt, rank_nt, right=True)
    return found_nt.masked_fill(n_absent_n1 <= 0, -1)


def _repeated(genes_nt: Tensor, chosen_nt: Tensor) -> Tensor:
    """(cells, tokens) bool: an earlier chosen position of the cell has the same gene."""
    place_t = torch.arange(genes_nt.shape[1], device=genes_nt.device)
    distinct_nt = torch.where(chosen_nt, genes_nt, -1 - place_t)
    sorted_nt, order_nt = distinct_nt.sort(dim=1, stable=True)
    same_nt = torch.zeros_like(chosen_nt)
    same_nt[:, 1:] = sorted_nt[:, 1:] == sorted_nt[:, :-1]
    return torch.zeros_like(chosen_nt).scatter(1, order_nt, same_nt)


def cell_seeds(rows_n: np.ndarray, *words: int) -> Tensor:
    """(cells,) int64 seeds that depend on the cell's row and on `words` (whole numbers >= 0)."""
    salt = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return splitmix64(torch.from_numpy(rows_n.astype(np.int64)) * GOLDEN + salt)


def uniform(seeds_n: Tensor, length: int, draw: int) -> Tensor:
    """(cells, length) float32 in [0, 1), independent for each cell, place and number of `draw`.

    A counter run through SplitMix64, which is the same on every device.
    """
    counter_t = torch.arange(1, length + 1, device=seeds_n.device) + (draw << 32)
    bits_nt = splitmix64(seeds_n[:, None] + counter_t * GOLDEN)
    return shifted_right(bits_nt, 40).float() * 2**-24
