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

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gradgene.attribution import BoundTarget, Target
from gradgene.attribution.members import Members, embed_members, read_at
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch
from gradgene.tokens import mask_category

__all__ = ["FRACTIONS", "SwapGap", "swap_gap"]

#: The eleven steps of the swap in whole numbers, which round the same way everywhere.
TENTHS = tuple(range(11))
#: Shares of a pair's genes that have been swapped.
FRACTIONS = tuple(tenth / 10 for tenth in TENTHS)
#: With fewer units an interval would say more about the formula than about the scores.
MIN_UNITS = 3


@dataclass(frozen=True)
class SwapGap:
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

    def __len__(self) -> int:
        return len(self.gap_p)

    @classmethod
    def joined(cls, parts: Sequence[SwapGap]) -> SwapGap:
        """The pairs of all parts, in their order."""
        columns = (torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls))
        return cls(*columns)

    @property
    def ratio(self) -> float:
        """Σ gap / Σ |f_input - f_baseline| over all pairs; NaN if f never differs."""
        change = float(self.change_p.sum())
        return float(self.gap_p.sum()) / change if change > 0 else float("nan")

    def interval(
        self, donors_p: Tensor | np.ndarray | None = None, level: float = 0.95
    ) -> tuple[float, float]:
        """Bounds of the ratio: a t-interval of the ratio estimator over pairs or over donors.

        A unit u (a pair, or all pairs of a donor) has the sums G_u of gaps and C_u of changes; with
        R = Σ G / Σ C the standard error is √(n / (n - 1) Σ (G_u - R C_u)²) / Σ C (Cochran 1977,
        §6.4), with n - 1 degrees of freedom.

        Parameters
        ----------
        donors_p
            (pairs,) whole numbers: the donor of each pair. Pairs of one donor are no replicates, so
            give them where there are donors; None takes every pair as a unit.
        level
            Confidence.

        Returns
        -------
        tuple
            Low and high; NaN with fewer than three units or where f never differs.
        """
        gap, change = self.gap_p.numpy(), self.change_p.numpy()
        if donors_p is not None:
            _, unit_p = np.unique(np.asarray(donors_p), return_inverse=True)
            gap, change = np.bincount(unit_p, gap), np.bincount(unit_p, change)
        n, ratio = len(gap), self.ratio
        if n < MIN_UNITS or not np.isfinite(ratio):
            return float("nan"), float("nan")
        spread = np.sqrt(n / (n - 1) * np.square(gap - ratio * change).sum())
        reach = float(stats.t.ppf((1 + level) / 2, n - 1) * spread / change.sum())
        return ratio - reach, ratio + reach


def swap_gap(
    model: PhenotypeGeneTransformer,
    blended: BlendedBatch,
    target: Target,
    scores_pt: Tensor,
    batch_tokens: int = 8192,
) -> SwapGap:
    """Swap the genes of each pair in the order of its scores, both ways, and read f.

    Equal scores are swapped in the order of gene ids both ways, so the order in which genes lie
    plays no part and scores that say nothing have a gap of exactly 0.

    Parameters
    ----------
    model
        Borrowed: afterwards as before.
    blended
        Pairs on the device of the model; the target category is masked here.
    target
        The scalar f, the one the scores are of.
    scores_pt
        (pairs, positions) signed scores of the input against the baseline, in any unit; only their
        order and those of genes count.
    batch_tokens
        Padded tokens that are run through the model at a time.

    Raises
    ------
    AttributionError
        If scores and pairs differ in shape or a gene's score is not finite.
    """
    is_gene_pt = blended.gene_ids_pt >= 0
    _check_order(scores_pt, is_gene_pt)
    device = next(model.parameters()).device
    rows = max(1, batch_tokens // is_gene_pt.shape[1])
    with explaining(model), torch.no_grad(), torch.autocast(device.type, enabled=False):
        masked, _ = mask_category(blended.cells, model.vocabulary, target.category)
        members = embed_members(model, blended.with_cells(masked))
        bound = target.bind(model.vocabulary)
        none_pt, all_pt = torch.zeros_like(is_gene_pt), torch.ones_like(is_gene_pt)
        ends = torch.stack([none_pt, all_pt])
        f_input_p, f_baseline_p = _read(model, members, bound, ends, rows).unbind()
        sign_p = (f_input_p - f_baseline_p).sign()
        towards_pt = scores_pt.detach().to(device, torch.float64) * sign_p[:, None]
        lowest, highest = (
            _read(model, members, bound, _swapped(key_pt, blended.gene_ids_pt), rows).T.cpu()
            for key_pt in (towards_pt, -towards_pt)
        )
    return SwapGap(
        gap_p=sign_p.cpu() * (lowest - highest).mean(dim=1),
        change_p=(f_input_p - f_baseline_p).abs().cpu(),
        f_lowest_first_pk=lowest,
        f_highest_first_pk=highest,
    )


def _check_order(scores_pt: Tensor, is_gene_pt: Tensor) -> None:
    if scores_pt.shape != is_gene_pt.shape:
        raise AttributionError(
            "scores and pairs differ in shape",
            expected=str(tuple(is_gene_pt.shape)),
            found=str(tuple(scores_pt.shape)),
        )
    if not bool(scores_pt[is_gene_pt].isfinite().all()):
        raise AttributionError("genes have NaN or infinite scores, which have no order")


def _swapped(key_pt: Tensor, gene_ids_pt: Tensor) -> Tensor:
    """(fractions, pairs, positions) bool: the share of genes with the lowest keys."""
    is_gene_pt = gene_ids_pt >= 0
    # Two stable sorts: by gene id, then by key; positions without a gene go last.
    by_id_pt = gene_ids_pt.argsort(dim=1, stable=True)
    # Plus 0, as a sort of bits takes -0 for less than 0.
    key_pt = (key_pt + 0.0).masked_fill(~is_gene_pt, torch.inf).gather(1, by_id_pt)
    order_pt = by_id_pt.gather(1, key_pt.argsort(dim=1, stable=True))
    rank_pt = order_pt.argsort(dim=1)
    n_genes_p = is_gene_pt.sum(dim=1)
    tenths_k = torch.tensor(TENTHS, device=gene_ids_pt.device)
    n_swapped_kp = (tenths_k[:, None] * n_genes_p + 5) // 10  # to the nearest whole number
    return (rank_pt < n_swapped_kp[..., None]) & is_gene_pt


def _read(
    model: PhenotypeGeneTransformer,
    members: Members,
    target: BoundTarget,
    swapped_kpt: Tensor,
    rows: int,
) -> Tensor:
    """f (swaps, pairs) float64 of the input with the baseline's state at `swapped_kpt`."""
    n_swaps, n_pairs, _ = swapped_kpt.shape
    each = torch.arange(n_swaps * n_pairs, device=swapped_kpt.device)
    parts = []
    for at in each.split(rows):
        pair = at % n_pairs
        x_ptd, mask_pt = members.take(pair).mixed(swapped_kpt[at // n_pairs, pair])
        parts.append(read_at(model, "total", x_ptd, mask_pt, target))
    return torch.cat(parts).double().reshape(n_swaps, n_pairs)
