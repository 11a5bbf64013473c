"""The noun of the token floor: a padded batch of cells as integers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradgene.errors import TokenError
from gradgene.tokens.layout import PAD
from gradgene.tokens.vocabulary import Vocabulary

__all__ = ["TokenBatch", "mask_category"]


@dataclass(frozen=True)
class TokenBatch:
    """Cells as `[CLS] phenotypes genes [EOS]`, padded on the right.

    Attributes
    ----------
    input_ids_nt
        int64: label or expression bin at each position; `pad_id` where there is no token.
    token_type_ids_nt
        int64: which category or gene sits there; 0 for special tokens and padding.
    attention_mask_nt
        bool: True where there is a token to attend to.
    gene_ids_nt
        int64: index into `Vocabulary.genes`; -1 where the token is not a gene, or one that is not
        attended to.
    pad_id
        Input id of `[PAD]`.
    """

    input_ids_nt: Tensor
    token_type_ids_nt: Tensor
    attention_mask_nt: Tensor
    gene_ids_nt: Tensor
    pad_id: int = field(default=PAD, kw_only=True)

    def __post_init__(self) -> None:
        shapes = {tuple(tensor.shape) for tensor in self.tensors().values()}
        if len(shapes) != 1 or self.input_ids_nt.ndim != 2:
            raise TokenError("token tensors differ in shape", found=str(sorted(shapes)))
        if self.attention_mask_nt.dtype != torch.bool:
            raise TokenError("the attention mask must be bool")

    def __len__(self) -> int:
        return self.input_ids_nt.shape[0]

    def tensors(self) -> dict[str, Tensor]:
        """Attribute name -> tensor (cells, tokens), in the order of the attributes."""
        names = ("input_ids_nt", "token_type_ids_nt", "attention_mask_nt", "gene_ids_nt")
        return {name: getattr(self, name) for name in names}

    @property
    def n_tokens_n(self) -> Tensor:
        """(cells,) int64: number of real tokens of each cell."""
        return self.attention_mask_nt.sum(dim=1)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """The same batch on another device."""
        moved = {k: v.to(device, non_blocking=non_blocking) for k, v in self.tensors().items()}
        return TokenBatch(**moved, pad_id=self.pad_id)

    def clone(self) -> TokenBatch:
        """A copy in memory of its own."""
        copied = {name: tensor.clone() for name, tensor in self.tensors().items()}
        return TokenBatch(**copied, pad_id=self.pad_id)

    def take(self, rows_n: Tensor) -> TokenBatch:
        """The cells at positions `rows_n`, trimmed to the last token of any of them."""
        used = self.attention_mask_nt[rows_n].any(dim=0).nonzero()
        length = int(used.max()) + 1 if len(used) else 0
        picked = {name: tensor[rows_n, :length] for name, tensor in self.tensors().items()}
        return TokenBatch(**picked, pad_id=self.pad_id)

    def keep(self, keep_nt: Tensor) -> TokenBatch:
        """Delete the tokens where `keep_nt` is False and close the gaps, order unchanged."""
        keep_nt = keep_nt & self.attention_mask_nt
        # A stable descending sort of the flags moves kept tokens to the front, in their order.
        order_nt = torch.sort(keep_nt.to(torch.int8), dim=1, descending=True, stable=True).indices
        length = int(keep_nt.sum(dim=1).max()) if len(self) else 0
        order_nt = order_nt[:, :length]
        kept_nt = keep_nt.gather(1, order_nt)
        return replace(
            self,
            input_ids_nt=self.input_ids_nt.gather(1, order_nt).masked_fill(~kept_nt, self.pad_id),
            token_type_ids_nt=self.token_type_ids_nt.gather(1, order_nt).masked_fill(~kept_nt, 0),
            attention_mask_nt=kept_nt,
            gene_ids_nt=self.gene_ids_nt.gather(1, order_nt).masked_fill(~kept_nt, -1),
        )

    def compact(self) -> TokenBatch:
        """The batch without tokens that are not attended to; a model reads the same in it."""
        last_n = self.attention_mask_nt.cumsum(dim=1).argmax(dim=1) + 1
        if bool((last_n == self.n_tokens_n).all()):
            return self
        return self.keep(self.attention_mask_nt)


def mask_category(
    tokens: TokenBatch, vocabulary: Vocabulary, category: str
) -> tuple[TokenBatch, Tensor]:
    """Hide the label of `category` behind `[MASK]`.

    Returns the masked batch and labels_n (cells,): the hidden input ids.
    Raises `TokenError` (from `Vocabulary.slot`) if the category has no slot in the sequence.
    """
    slot = vocabulary.slot(category)
    labels_n = tokens.input_ids_nt[:, slot].clone()
    input_ids_nt = tokens.input_ids_nt.clone()
    input_ids_nt[:, slot] = vocabulary.mask_id
    return replace(tokens, input_ids_nt=input_ids_nt), labels_n
