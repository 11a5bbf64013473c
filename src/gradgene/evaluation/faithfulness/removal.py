"""Removing genes from the input alone: comprehensiveness, sufficiency and AOPC.

Formula
    Tokens of genes are deleted from the input cell; nothing takes their place, and there is no
    second cell. With the highest score first,
    comprehensiveness = mean over k of f(x) - f(x without its top k),
    sufficiency = mean over k of f(x) - f(x with no gene but its top k), k = 1, 5, 10, 20, 50 %,
    AOPC = mean over 0, 10 … 100 % of f(x) - f(x without its top share).
    Of each k at least one gene; shares are rounded to whole genes.
Source
    Comprehensiveness and sufficiency: DeYoung et al. 2020 (ERASER), whose f is the probability of
    the class named and whose formula also counts a bin without tokens. AOPC: Samek et al. 2017.
What it asks
    What this cell's own genes do, not what sets two cells apart: judge scores by it that are
    against the empty baseline. A cell without half of its genes is none that the model has seen,
    and f may fall whatever is removed; so read every value beside that of random scores. Of
    sufficiency lower is better and below 0 is possible, of the others higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.evaluation.faithfulness.orders import check_scores, first_genes, gene_ranks
from gradgene.evaluation.faithfulness.per_pair import PerPair
from gradgene.evaluation.faithfulness.reading import PairReader

__all__ = ["Removal", "own_genes", "read_removal"]

#: Shares of the input's genes, in percent, that comprehensiveness and sufficiency look at.
TOP_PERCENTS = (1, 5, 10, 20, 50)
#: Shares removed for AOPC; the order of its curve.
STEP_PERCENTS = tuple(range(0, 101, 10))


@dataclass(frozen=True)
class Removal(PerPair):
    """What removing genes did to f, pair by pair, in the units of f; all float64 on the CPU.

    Attributes
    ----------
    comprehensiveness_p, sufficiency_p
        (pairs,) as above.
    f_removed_pk
        (pairs, 11) f after removing 0, 10 … 100 % of the genes, the highest scores first.
    """

    comprehensiveness_p: Tensor
    sufficiency_p: Tensor
    f_removed_pk: Tensor

    @property
    def aopc_p(self) -> Tensor:
        """(pairs,) mean fall of f over the curve, its start included."""
        return (self.f_removed_pk[:, :1] - self.f_removed_pk).mean(dim=1)


def read_removal(reader: PairReader, scores_pt: Tensor) -> Removal:
    """Delete genes of each input in the order of its scores, and read f.

    Parameters
    ----------
    reader
        Of `reading` of `blended.without_baseline_genes()`: only the inputs count.
    scores_pt
        (pairs, positions) signed scores, in any unit; only the order of the input's genes counts,
        and equal ones are taken in the order of gene ids.

    Raises
    ------
    AttributionError
        If scores and pairs differ in shape or a gene's score is not finite.
    """
    check_scores(scores_pt, reader.gene_ids_pt)
    own_pt = own_genes(reader)
    towards_pt = scores_pt.detach().to(own_pt.device, torch.float64)
    rank_pt = gene_ranks(-towards_pt, own_pt)
    percents = sorted({*TOP_PERCENTS, *STEP_PERCENTS})
    removed_kpt = first_genes(rank_pt, own_pt, percents, at_least=1)
    top_kpt = removed_kpt[[percents.index(percent) for percent in TOP_PERCENTS]]
    f_kp = reader.read(torch.cat([removed_kpt, (own_pt >= 0) & ~top_kpt]))
    f_whole_p, f_kept_kp = f_kp[0], f_kp[len(percents) :]
    f_removed = dict(zip(percents, f_kp, strict=False))
    fall_kp = torch.stack([f_whole_p - f_removed[percent] for percent in TOP_PERCENTS])
    return Removal(
        comprehensiveness_p=fall_kp.mean(dim=0),
        sufficiency_p=(f_whole_p - f_kept_kp).mean(dim=0),
        f_removed_pk=torch.stack([f_removed[percent] for percent in STEP_PERCENTS], dim=1),
    )


def own_genes(reader: PairReader) -> Tensor:
    """(pairs, positions) the gene ids of the inputs; -1 where the input has no gene."""
    return reader.gene_ids_pt.masked_fill(~reader.members.mask_input_pt, -1)
