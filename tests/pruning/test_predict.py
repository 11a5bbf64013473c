"""Batches of any size predict the same, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradgene.errors import TokenError
from gradgene.halving import TooLargeError, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import predict
from gradgene.tokens import MASK, TokenBatch
from tests.small_memory import SmallMemory


def one_by_one(model: PhenotypeGeneTransformer, tokens: TokenBatch, category: str) -> np.ndarray:
    """Probabilities from the whole forward pass of each cell alone, without any padding."""
    vocabulary = model.vocabulary
    slot, ids = vocabulary.slot(category), list(vocabulary.label_ids(category))
    found = []
    for i in range(len(tokens)):
        length = int(tokens.attention_mask_nt[i].sum())
        input_ids = tokens.input_ids_nt[i : i + 1, :length].clone()
        input_ids[0, slot] = MASK
        alone = TokenBatch(
            input_ids,
            tokens.token_type_ids_nt[i : i + 1, :length],
            tokens.attention_mask_nt[i : i + 1, :length],
            tokens.gene_ids_nt[i : i + 1, :length],
        )
        with torch.no_grad():
            logits = model(alone).logits_ntv[0, slot, ids]
        found.append((logits - logits.logsumexp(dim=0)).exp().numpy())
    return np.stack(found)


@pytest.mark.parametrize("category", ["disease", "cell_type"])
@pytest.mark.parametrize("batch_tokens", [1, 130, 10**6])
def test_batches_of_any_size_agree(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch, category: str, batch_tokens: int
) -> None:
    found = predict(tiny_model, tiny_tokens, category, batch_tokens)
    expected = one_by_one(tiny_model, tiny_tokens, category)
    assert found.labels == tiny_model.vocabulary.categories[category]
    assert found.probabilities_nc.shape == (len(tiny_tokens), len(found.labels))
    np.testing.assert_allclose(found.probabilities_nc, expected, atol=1e-6)
    assert expected.std(axis=0).max() > 0.01  # cells differ, so rows out of order would show


def test_the_label_is_not_read(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch
) -> None:
    slot = tiny_model.vocabulary.slot("disease")
    other = tiny_tokens.input_ids_nt.clone()
    other[:, slot] = tiny_model.vocabulary.label_id("disease", "case")
    relabelled = TokenBatch(
        other,
        tiny_tokens.token_type_ids_nt,
        tiny_tokens.attention_mask_nt,
        tiny_tokens.gene_ids_nt,
    )
    np.testing.assert_array_equal(
        predict(tiny_model, relabelled, "disease", 500).probabilities_nc,
        predict(tiny_model, tiny_tokens, "disease", 500).probabilities_nc,
    )


def test_unknown_category(tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch) -> None:
    with pytest.raises(TokenError, match="'tissue'"):
        predict(tiny_model, tiny_tokens, "tissue", 500)


def test_what_does_not_fit_is_predicted_in_halves(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = one_by_one(tiny_model, tiny_tokens, "disease")
    longest = int(tiny_tokens.n_tokens_n.max())
    memory = SmallMemory(monkeypatch, 3 * longest)
    found = predict(tiny_model, tiny_tokens, "disease", 10**6)
    np.testing.assert_allclose(found.probabilities_nc, expected, atol=1e-6)
    assert memory.failed and (limit_of(tiny_model, "prediction").tokens or np.inf) <= 3 * longest
    n_failed = len(memory.failed)
    predict(tiny_model, tiny_tokens, "disease", 10**6)
    assert len(memory.failed) == n_failed
    memory.n_tokens = longest - 1
    with pytest.raises(TooLargeError, match=f"prediction: .*found {longest} tokens"):
        predict(tiny_model, tiny_tokens, "disease", 10**6)
