"""Put genes of the inputs into the baselines' state and read f: what every measure rests on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradgene.attribution import BoundTarget, Target
from gradgene.attribution.members import Members, embed_members, read_at
from gradgene.halving import in_halves, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch
from gradgene.tokens import length_batches, mask_category, padded

__all__ = ["PairReader", "reading"]


@dataclass(frozen=True)
class PairReader:
    """Both members of pairs as embeddings, and the model to read mixtures of them with.

    Attributes
    ----------
    model, target
        What is read; used inside `reading` only.
    members
        The pairs, the target category masked.
    gene_ids_pt
        (pairs, positions) int64 gene of each position; -1 where there is none.
    batch_tokens
        Padded tokens that are run through the model at a time.
    """

    model: PhenotypeGeneTransformer
    target: BoundTarget
    members: Members
    gene_ids_pt: Tensor
    batch_tokens: int

    def take(self, rows: Tensor) -> PairReader:
        """The pairs at these positions."""
        return replace(self, members=self.members.take(rows), gene_ids_pt=self.gene_ids_pt[rows])

    def read(self, swapped_kpt: Tensor) -> Tensor:
        """f (swaps, pairs) float64 on the CPU, of the inputs with the baselines' state there.

        Tokens that neither member has at a position cost nothing, so that removing genes, the
        baseline being without them, makes the reading cheaper. What does not fit in memory is
        done in halves.
        """
        n_swaps, n_pairs, _ = swapped_kpt.shape
        n_tokens_kp = torch.where(
            swapped_kpt, self.members.mask_baseline_pt, self.members.mask_input_pt
        ).sum(dim=2)
        n_tokens_r = n_tokens_kp.flatten()
        limit = limit_of(self.model, "mixtures of pairs")

        def read(some: Tensor) -> Tensor:
            row = some.to(swapped_kpt.device)
            pair = row % n_pairs
            return self._read(pair, swapped_kpt[row // n_pairs, pair]).double().cpu()

        def n_tokens(some: Tensor) -> int:
            return padded(n_tokens_r[some.to(n_tokens_r.device)])

        f_r = torch.zeros(n_swaps * n_pairs, dtype=torch.float64)
        for batch in length_batches(n_tokens_r, self.batch_tokens):
            f_r[batch] = torch.cat(in_halves(read, batch, n_tokens, limit))
        return f_r.reshape(n_swaps, n_pairs)

    def _read(self, pair_r: Tensor, swapped_rt: Tensor) -> Tensor:
        """f (rows,) with positions that no row attends to left out, which changes nothing."""
        x = self.members
        mask_rt = torch.where(swapped_rt, x.mask_baseline_pt[pair_r], x.mask_input_pt[pair_r])
        keep_rt = mask_rt.clone()
        keep_rt[:, : self.model.vocabulary.n_header] = True  # the target keeps its slot
        order_rt = keep_rt.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        order_rt = order_rt[:, : int(keep_rt.sum(dim=1).max())]
        at = pair_r[:, None], order_rt
        x_rtd = torch.where(
            swapped_rt.gather(1, order_rt)[..., None], x.x_baseline_ptd[at], x.x_input_ptd[at]
        )
        return read_at(self.model, "total", x_rtd, mask_rt.gather(1, order_rt), self.target)


@contextmanager
def reading(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, target: Target, batch_tokens: int = 8192
) -> Iterator[PairReader]:
    """Read mixtures of the members of pairs; the model is given back as it was.

    The target category is masked here. In the weights' own precision, without gradients.
    """
    device = blended.gene_ids_pt.device.type
    with explaining(model), torch.no_grad(), torch.autocast(device, enabled=False):
        masked, _ = mask_category(blended.cells, model.vocabulary, target.category)
        yield PairReader(
            model=model,
            target=target.bind(model.vocabulary),
            members=embed_members(model, blended.with_cells(masked)),
            gene_ids_pt=blended.gene_ids_pt,
            batch_tokens=batch_tokens,
        )
