"""What a model says of many cells, in batches of similar length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import TokenBatch, length_batches, mask_category

__all__ = ["Predictions", "predict"]


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


@torch.no_grad()
def predict(
    model: PhenotypeGeneTransformer, tokens: TokenBatch, category: str, batch_tokens: int
) -> Predictions:
    """Mask `category` in every cell and predict it; rows as in `tokens`.

    The model must be in evaluation mode. Raises `TokenError` for an unknown category.
    """
    vocabulary = model.vocabulary
    ids = list(vocabulary.label_ids(category))
    device = next(model.parameters()).device
    masked, _ = mask_category(tokens, vocabulary, category)
    probabilities = torch.empty(len(tokens), len(ids))
    for rows in length_batches(tokens.n_tokens_n, batch_tokens):
        batch = masked.take(rows).to(device)
        logits = model.read(model.embed(batch), batch.attention_mask_nt, category)
        probabilities[rows] = logits[:, ids].float().softmax(dim=1).cpu()
    return Predictions(probabilities.numpy(), vocabulary.categories[category])
