"""What a model says of many cells, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import TokenBatch, mask_category

__all__ = ["Predictions", "length_batches", "predict"]


@dataclass(frozen=True)
class Predictions:
    """Predictions of the masked target category.

    Attributes
    ----------
    probabilities_nc
        (cells, labels) softmax over the labels of the category, in vocabulary order.
    labels
        Names of the labels.
    """

    probabilities_nc: np.ndarray
    labels: tuple[str, ...]


def length_batches(n_tokens_n: Tensor, batch_tokens: int) -> Iterator[Tensor]:
    """Row indices, longest cells first, at most `batch_tokens` padded tokens a batch.

    Longest first, so that a batch that does not fit in memory fails at once and not after hours.
    """
    order = torch.argsort(n_tokens_n, descending=True)
    start = 0
    while start < len(order):
        longest = max(int(n_tokens_n[order[start]]), 1)
        stop = start + max(1, batch_tokens // longest)
        yield order[start:stop]
        start = stop


@torch.no_grad()
def predict(
    model: PhenotypeGeneTransformer, tokens: TokenBatch, category: str, batch_tokens: int
) -> Predictions:
    """Mask `category` in every cell and predict it; rows as in `tokens`.

    The model must be in evaluation mode. Raises `TokenError` for an unknown category.
    """
    vocabulary = model.vocabulary
    slot, ids = vocabulary.slot(category), vocabulary.label_ids(category)
    device = next(model.parameters()).device
    masked, _ = mask_category(tokens, vocabulary, category)
    probabilities = torch.empty(len(tokens), len(ids))
    for rows in length_batches(tokens.n_tokens_n, batch_tokens):
        batch = masked.take(rows).to(device)
        logits = model.read(model.embed(batch), batch.attention_mask_nt, slot)
        probabilities[rows] = logits[:, ids.start : ids.stop].float().softmax(dim=1).cpu()
    return Predictions(probabilities.numpy(), vocabulary.categories[category])
