"""The multimodal transformer over phenotype and gene tokens (PolyGene)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.errors import ConfigError
from gradgene.models.attention import MultiHeadAttention
from gradgene.tokens import PAD, TokenBatch, Vocabulary

__all__ = ["ModelOutput", "PhenotypeGeneTransformer"]


@dataclass(frozen=True)
class ModelOutput:
    """What the model says of a batch: `logits_ntv` over input ids, `hidden_ntd` before the head."""

    logits_ntv: Tensor
    hidden_ntd: Tensor


class Block(nn.Module):
    """Post-norm transformer block: attention and feed-forward, each added and then normalised."""

    def __init__(
        self, dim: int, n_heads: int, hidden_dim: int, dropout: float, layer_norm_eps: float
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim, n_heads)
        self.sa_layer_norm = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.lin1, self.lin2 = nn.Linear(dim, hidden_dim), nn.Linear(hidden_dim, dim)
        self.activation = nn.GELU()
        self.output_layer_norm = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_ntd: Tensor, mask_nt: Tensor, slot: int | None = None) -> Tensor:
        """All positions, or only position `slot` (cells, 1, dim) attending to all."""
        queries = x_ntd if slot is None else x_ntd[:, slot : slot + 1]
        attended = self.dropout(self.attention(x_ntd, mask_nt, queries))
        h = self.sa_layer_norm(queries + attended)
        fed = self.dropout(self.lin2(self.activation(self.lin1(h))))
        out_ntd: Tensor = self.output_layer_norm(h + fed)
        return out_ntd


class PhenotypeGeneTransformer(nn.Module):
    """Masked-token transformer whose tokens are phenotype labels and expression bins.

    A token's embedding is the sum of its value (`input_ids`) and its identity
    (`token_type_ids`), layer-normalised; there are no positions, so gene order is meaningless.

    Parameters
    ----------
    vocabulary
        The ids; a `Vocabulary` or its `to_dict()` (plain types, as checkpoints hold it).
    dim, n_layers, n_heads, hidden_dim
        Width, depth, heads and feed-forward width.
    dropout
        Dropout rate while training.
    layer_norm_eps
        Epsilon of every LayerNorm.
    initial_std
        Standard deviation of the initial normal weights, with zero biases (BERT: 0.02); None for
        torch's own initialisation. Small models fine-tuned at high rates need the latter: weights
        of 0.02 are overwritten within a few steps and the model then reads little but which genes
        are there.

    Raises
    ------
    ConfigError
        If `dim` is not divisible by `n_heads`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | Mapping[str, Any],
        dim: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        hidden_dim: int = 256,
        dropout: float = 0.1,
        layer_norm_eps: float = 1e-12,
        initial_std: float | None = None,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ConfigError(
                f"width {dim} cannot be shared by {n_heads} heads",
                where="model",
                expected="dim divisible by n_heads",
            )
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary.from_dict(vocabulary)
        self.vocabulary = vocabulary
        self.size = {
            "dim": dim,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
            "layer_norm_eps": layer_norm_eps,
            "initial_std": initial_std,
        }
        self.value_embedding = nn.Embedding(vocabulary.n_values, dim, padding_idx=PAD)
        self.identity_embedding = nn.Embedding(vocabulary.n_types, dim)
        self.embedding_norm = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(dim, n_heads, hidden_dim, dropout, layer_norm_eps) for _ in range(n_layers)
        )
        self.head_transform = nn.Linear(dim, dim)
        self.head_activation = nn.GELU()
        self.head_norm = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.head_projector = nn.Linear(dim, vocabulary.n_values)
        if initial_std is not None:
            self.apply(partial(_initialise, std=initial_std))

    def embed(self, tokens: TokenBatch) -> Tensor:
        """Total embedding (cells, tokens, dim): value plus identity, after its LayerNorm."""
        value_ntd = self.value_embedding(tokens.input_ids_nt)
        identity_ntd = self.identity_embedding(tokens.token_type_ids_nt)
        total_ntd: Tensor = self.embedding_norm(value_ntd + identity_ntd)
        return total_ntd

    def encode(
        self, embeddings_ntd: Tensor, attention_mask_nt: Tensor, slot: int | None = None
    ) -> Tensor:
        """Hidden states of all positions, or of `slot` alone (cells, 1, dim).

        Reading one slot lets the last block compute a single query; the result is the same.
        """
        x_ntd: Tensor = self.dropout(embeddings_ntd)
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            x_ntd = block(x_ntd, attention_mask_nt, slot if last else None)
        return x_ntd

    def head(self, hidden_ntd: Tensor) -> Tensor:
        """Logits over the input ids."""
        features_ntd = self.head_activation(self.head_transform(hidden_ntd))
        logits_ntv: Tensor = self.head_projector(self.head_norm(features_ntd))
        return logits_ntv

    def read(self, embeddings_ntd: Tensor, attention_mask_nt: Tensor, slot: int) -> Tensor:
        """Logits (cells, input ids) at position `slot`, from total embeddings."""
        return self.head(self.encode(embeddings_ntd, attention_mask_nt, slot))[:, 0]

    def forward(self, tokens: TokenBatch) -> ModelOutput:
        """Logits and hidden states at every position."""
        hidden_ntd = self.encode(self.embed(tokens), tokens.attention_mask_nt)
        return ModelOutput(logits_ntv=self.head(hidden_ntd), hidden_ntd=hidden_ntd)


def _initialise(module: nn.Module, std: float) -> None:
    """Normal weights of standard deviation `std`, zero biases, a zero padding embedding."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
