"""Change one token at a time and read how far f falls: what both occlusions have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.attribution.members import read_at
from gradgene.attribution.method import AttributionMethod, require_positive
from gradgene.attribution.target import BoundTarget
from gradgene.halving import in_halves, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import length_batches, padded

__all__ = ["Occlusion", "explained_tokens"]

#: (rows, columns) of tokens -> one changed row for each: points and mask.
Occluded = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Occlusion(AttributionMethod):
    """A method that runs the model once for every token that it changes; no gradients.

    Parameters
    ----------
    forward_tokens
        Padded tokens of one forward pass: how many changed copies run at once. It bounds memory
        and changes no score.

    Raises
    ------
    AttributionError
        If `forward_tokens` is not positive.
    """

    forward_tokens: int = 8192

    def __post_init__(self) -> None:
        require_positive("forward_tokens", self.forward_tokens)

    @torch.no_grad()
    def read(
        self, model: PhenotypeGeneTransformer, target: BoundTarget, x_ntd: Tensor, mask_nt: Tensor
    ) -> Tensor:
        """f (rows,) of total embeddings, `forward_tokens` at once."""
        f_n = x_ntd.new_zeros(len(x_ntd))
        n_tokens_n = mask_nt.sum(dim=1)

        def read(n: Tensor) -> Tensor:
            return _read(model, target, x_ntd[n], mask_nt[n])

        for batch in length_batches(n_tokens_n, self.forward_tokens):
            n = batch.to(x_ntd.device)
            f_n[n] = torch.cat(self.fitting(model, read, n, n_tokens_n))
        return f_n

    @torch.no_grad()
    def falls(
        self,
        model: PhenotypeGeneTransformer,
        target: BoundTarget,
        f_n: Tensor,
        n_tokens_n: Tensor,
        changes_nt: Tensor,
        occluded: Occluded,
    ) -> Tensor:
        """How far f falls when a token is changed, (rows, positions).

        Parameters
        ----------
        f_n, n_tokens_n
            f and number of tokens of each row as it is.
        changes_nt
            bool: which tokens to change; the others score exactly 0 and cost nothing.
        occluded
            Makes the changed copies.
        """
        row_k, column_k = changes_nt.nonzero(as_tuple=True)
        falls_nt = torch.zeros_like(changes_nt, dtype=f_n.dtype)
        n_tokens_k = n_tokens_n[row_k] + 1  # a change adds at most one token

        def read(k: Tensor) -> Tensor:
            return _read(model, target, *occluded(row_k[k], column_k[k]))

        for batch in length_batches(n_tokens_k, self.forward_tokens):
            k = batch.to(row_k.device)
            at = row_k[k], column_k[k]
            falls_nt[at] = f_n[at[0]] - torch.cat(self.fitting(model, read, k, n_tokens_k))
        return falls_nt

    def fitting(
        self,
        model: PhenotypeGeneTransformer,
        read: Callable[[Tensor], Tensor],
        rows: Tensor,
        n_tokens_n: Tensor,
    ) -> list[Tensor]:
        """What is read of some rows, in as few pieces as fit in memory."""
        limit = limit_of(model, f"{self.name}, cells")
        return in_halves(read, rows, lambda some: padded(n_tokens_n[some]), limit)


def explained_tokens(
    model: PhenotypeGeneTransformer, gene_ids_nt: Tensor, target: BoundTarget
) -> Tensor:
    """bool (rows, positions): genes and phenotypes, without the masked slot of the target.

    `[CLS]` and `[EOS]` are the same in every cell and evidence of nothing.
    """
    explained_nt = gene_ids_nt >= 0
    explained_nt[:, 1 : 1 + len(model.vocabulary.phenotypes)] = True
    explained_nt[:, model.vocabulary.slot(target.category)] = False
    return explained_nt


def _read(
    model: PhenotypeGeneTransformer, target: BoundTarget, x_ntd: Tensor, mask_nt: Tensor
) -> Tensor:
    """f (rows,) with positions that no row attends to left out, which changes nothing."""
    keep_nt = mask_nt.clone()
    keep_nt[:, : 1 + len(model.vocabulary.phenotypes)] = True  # the target keeps its slot
    order_nt = torch.sort(keep_nt.to(torch.int8), dim=1, descending=True, stable=True).indices
    order_nt = order_nt[:, : int(keep_nt.sum(dim=1).max())]
    shown_ntd = x_ntd.gather(1, order_nt[..., None].expand(-1, -1, x_ntd.shape[-1]))
    return read_at(model, "total", shown_ntd, mask_nt.gather(1, order_nt), target)
