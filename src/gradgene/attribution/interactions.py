"""What two genes do to f together, beyond what each does alone: mixed differences.

Formula
    g(a, b) is f with gene i in the state that a says and gene j in the state that b says, of the
    input (1) or of the baseline (0), while everything else stays as the context has it. The
    interaction in that context is

        g(1, 1) - g(1, 0) - g(0, 1) + g(0, 0)

    and the effect of i alone is f with i's state of the input minus f with that of the baseline,
    nothing else changed. Both are means over two contexts: all else the input's, where this reads
    f(nothing swapped) - f(i) - f(j) + f(ij), and all else the baseline's.
Source
    The two outermost terms of the Shapley interaction index (Grabisch and Roubens 1999), which
    averages the same difference over every context; their mean equals the index wherever at most
    three genes act together, because then the index is the pair's own term and half of each
    threefold one that it is part of. As a change that the model has really seen no gradient of, it
    needs neither a smooth model nor a path.
Promises
    Exact for the changes made, and symmetric: exchanging the members of a pair changes nothing.
    Exactly 0 if f adds genes up, and for genes that have one state in both members, which cost no
    time. Of two genes in a model of the other genes' sum (a margin that bends) it is not 0; see
    `evaluation.interaction_table` for what single effects alone would give.
    A difference of four readings: with weights below float32 much of a small one is rounding.
Use it
    Over pairs of cells that differ in both genes. Between a case and a control that an exclusive or
    tells apart exactly one of its two genes differs, so pairs matched for the contrast show little
    of it: draw cells whatever their labels (`gradgene.pairs.blind`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import product

import torch
from torch import Tensor

from gradgene.attribution.members import Members, embed_members, read_at
from gradgene.attribution.target import BoundTarget, Target
from gradgene.errors import AttributionError
from gradgene.halving import in_halves, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch
from gradgene.tokens import mask_category

__all__ = ["GeneInteractions", "mixed_differences", "placed", "prepared"]


@dataclass(frozen=True)
class GeneInteractions:
    """Effects of some genes, one by one and two by two, in pairs of cells; float64 on the CPU.

    Attributes
    ----------
    single_pk
        (pairs, genes) what f gains, in its units, from the input's state of a gene in place of the
        baseline's.
    interaction_pkk
        (pairs, genes, genes) what two genes add to that together; symmetric with a zero diagonal.
    direction_pk
        (pairs, genes) 1 where the input has more of the gene, -1 where the baseline has, 0 where
        both are in one state.

    Raises
    ------
    AttributionError
        If shapes differ or a value is NaN or infinite.
    """

    single_pk: Tensor
    interaction_pkk: Tensor
    direction_pk: Tensor

    def __post_init__(self) -> None:
        p, k = self.single_pk.shape
        if self.direction_pk.shape != (p, k) or self.interaction_pkk.shape != (p, k, k):
            raise AttributionError("single effects, interactions and directions differ in shape")
        finite_p = self.single_pk.isfinite().all(dim=1)
        finite_p &= self.interaction_pkk.flatten(1).isfinite().all(dim=1)
        if not bool(finite_p.all()):
            raise AttributionError(
                f"interactions are NaN or infinite in {int((~finite_p).sum())} of {p} pairs",
                found=f"first in pair {int((~finite_p).nonzero()[0])}",
                fix="check the checkpoint for NaN weights",
            )

    def __len__(self) -> int:
        return len(self.single_pk)

    @classmethod
    def joined(cls, parts: Sequence[GeneInteractions]) -> GeneInteractions:
        """The pairs of all parts, in their order."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    @property
    def upward_pk(self) -> Tensor:
        """(pairs, genes) what f gains from the higher of the two states in place of the lower."""
        return self.single_pk * self.direction_pk

    @property
    def upward_pkk(self) -> Tensor:
        """(pairs, genes, genes) g(high, high) - g(high, low) - g(low, high) + g(low, low).

        Positive: both genes high speak more for the label than the one and the other do; negative:
        less, as of two that say the same, or of an exclusive or. Unlike `interaction_pkk` it keeps
        its sign over pairs, as it does not matter which member has more of which gene.
        """
        return self.interaction_pkk * self.direction_pk[:, :, None] * self.direction_pk[:, None]


def mixed_differences(
    model: PhenotypeGeneTransformer,
    blended: BlendedBatch,
    target: Target,
    genes: Sequence[int],
    batch_tokens: int = 8192,
) -> GeneInteractions:
    """Single effects and interactions of genes by swapping their states.

    Of m genes that differ in a pair it takes 2 + m + m² forward passes.

    Parameters
    ----------
    model
        Borrowed: afterwards as before.
    blended
        Pairs on the device of the model; the target category is masked here.
    target
        The scalar f.
    genes
        Gene indices of the vocabulary.
    batch_tokens
        Padded tokens that are run through the model at a time.

    Raises
    ------
    AttributionError
        If a value is not finite.
    """

    def measure(members: Members, position_pk: Tensor, bound: BoundTarget) -> tuple[Tensor, Tensor]:
        n_pairs, k = position_pk.shape
        single_pk = torch.zeros(n_pairs, k, dtype=torch.float64)
        mixed_pkk = torch.zeros(n_pairs, k, k, dtype=torch.float64)
        for p, context in product(range(n_pairs), ("input", "baseline")):
            moved = (position_pk[p] >= 0).nonzero()[:, 0]
            one = members.take(torch.tensor([p], device=moved.device))
            shown, place_m = _compact(model, one, position_pk[p, moved], context)
            f_j = _read(model, bound, shown, place_m, context, batch_tokens)
            lost_m, mixed_mm = _differences(f_j, len(moved))
            sign, at = 1 if context == "input" else -1, moved.cpu()
            single_pk[p, at] += sign * lost_m / 2
            mixed_pkk[p, at[:, None], at] += mixed_mm / 2
        return single_pk, mixed_pkk

    with torch.no_grad():
        return prepared(model, blended, target, genes, measure)


#: (members, position of each gene or -1, f) -> single effects and interactions.
Measure = Callable[[Members, Tensor, BoundTarget], tuple[Tensor, Tensor]]


def prepared(
    model: PhenotypeGeneTransformer,
    blended: BlendedBatch,
    target: Target,
    genes: Sequence[int],
    measure: Measure,
) -> GeneInteractions:
    """Borrow the model, mask the target, embed the members, find the genes, and measure them.

    Raises
    ------
    AttributionError
        If a value is not finite.
    """
    device = next(model.parameters()).device
    grad = torch.is_grad_enabled()
    # In the weights' own precision: differences of bfloat16 activations explain nothing.
    with (
        explaining(model),
        torch.set_grad_enabled(grad),
        torch.autocast(device.type, enabled=False),
    ):
        masked, _ = mask_category(blended.cells, model.vocabulary, target.category)
        pairs = blended.with_cells(masked)
        position_pk, direction_pk = placed(pairs, genes)
        members = embed_members(model, pairs)
        single_pk, mixed_pkk = measure(members, position_pk, target.bind(model.vocabulary))
    return GeneInteractions(single_pk, mixed_pkk, direction_pk.double().cpu())


def placed(blended: BlendedBatch, genes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where each gene lies that differs between the members, and which of them has more.

    Returns
    -------
    position_pk
        (pairs, genes) int64; -1 where the members have the gene in one state, or lack it.
    direction_pk
        1, -1 or 0: the sign of the input's bin minus the baseline's. A gene that a member lacks is
        lower there than any bin.
    """
    wanted_k = torch.as_tensor(list(genes), device=blended.gene_ids_pt.device)
    found_pkt = blended.gene_ids_pt[:, None] == wanted_k[:, None]
    position_pk = found_pkt.to(torch.int8).argmax(dim=2)
    input_pt, baseline_pt = (
        member.input_ids_nt.masked_fill(~member.attention_mask_nt, -1)
        for member in (blended.input, blended.baseline)
    )
    direction_pk = (input_pt - baseline_pt).sign().gather(1, position_pk) * found_pkt.any(dim=2)
    return position_pk.masked_fill(direction_pk == 0, -1), direction_pk


def _compact(
    model: PhenotypeGeneTransformer, one: Members, at_m: Tensor, context: str
) -> tuple[Members, Tensor]:
    """A single pair on the positions that can be attended to, and where the genes are there."""
    kept_t = one.mask_input_pt[0] if context == "input" else one.mask_baseline_pt[0]
    kept_t = kept_t.clone()
    kept_t[at_m] = True
    kept_t[: 1 + len(model.vocabulary.phenotypes)] = True  # the target keeps its slot
    place_t = kept_t.cumsum(dim=0) - 1
    return Members(**{name: x[:, kept_t] for name, x in vars(one).items()}), place_t[at_m]


def _read(
    model: PhenotypeGeneTransformer,
    target: BoundTarget,
    one: Members,
    place_m: Tensor,
    context: str,
    batch_tokens: int,
) -> Tensor:
    """f (jobs,) float64 with no gene swapped, each one, and each two in order of `triu_indices`."""
    m, length, device = len(place_m), one.mask_input_pt.shape[1], place_m.device
    alone_j = torch.arange(m, device=device)
    first_j, second_j = torch.triu_indices(m, m, offset=1, device=device)
    swapped_jt = torch.zeros(1 + m + len(first_j), length, dtype=torch.bool, device=device)
    job_j = torch.arange(1, len(swapped_jt), device=device)
    for gene_j in (first_j, second_j):
        swapped_jt[job_j, place_m[torch.cat([alone_j, gene_j])]] = True
    limit = limit_of(model, "pairs of genes")

    def read(some_j: Tensor) -> Tensor:
        some_jt = swapped_jt[some_j]
        from_baseline_jt = some_jt if context == "input" else ~some_jt
        x_jtd, mask_jt = one.take(torch.zeros_like(some_j)).mixed(from_baseline_jt)
        return read_at(model, "total", x_jtd, mask_jt, target)

    parts = []
    for some_j in torch.arange(len(swapped_jt), device=device).split(
        max(1, batch_tokens // length)
    ):
        parts += in_halves(read, some_j, lambda rows: len(rows) * length, limit)
    return torch.cat(parts).double().cpu()


def _differences(f_j: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """What f loses by each swap (genes,), and the mixed differences (genes, genes)."""
    f_none, f_m, f_both = f_j[0], f_j[1 : 1 + m], f_j[1 + m :]
    first, second = torch.triu_indices(m, m, offset=1)
    mixed_mm = f_j.new_zeros(m, m)
    mixed_mm[first, second] = f_none - f_m[first] - f_m[second] + f_both
    return f_none - f_m, mixed_mm + mixed_mm.T
