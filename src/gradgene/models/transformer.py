"""The multimodal transformer over phenotype and gene tokens (PolyGene)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradgene.errors import ConfigError, closest
from gradgene.models.block import ACTIVATIONS, NORMS, Activation, Block, Norm
from gradgene.models.heads import Classifier, Head, TiedProjector, UnitNorm
from gradgene.models.running import run_block, run_compiled
from gradgene.tokens import TokenBatch, Vocabulary

__all__ = ["ModelOutput", "PhenotypeGeneTransformer"]


@dataclass(frozen=True)
class ModelOutput:
    """What the model says of a batch: `logits_ntv` over input ids, `hidden_ntd` before the head."""

    logits_ntv: Tensor
    hidden_ntd: Tensor


class PhenotypeGeneTransformer(nn.Module):
    """Masked-token transformer whose tokens are phenotype labels and expression bins.

    A token's embedding is the sum of its value (`input_ids`) and its identity
    (`token_type_ids`), normalised. What counts as identity is the vocabulary's: a category or gene,
    so that the order of genes is meaningless, or a position that stands for one.

    Parameters
    ----------
    vocabulary
        The ids; a `Vocabulary` or its `to_dict()` (plain types, as checkpoints hold it).
    dim, n_layers, n_heads, hidden_dim
        Width, depth, heads and feed-forward width.
    dropout
        Dropout rate while training.
    layer_norm_eps, embedding_norm_eps
        Epsilon of the norms in the blocks and the head, and of the one on the embeddings (None:
        the same).
    initial_std
        Standard deviation of the initial normal weights, with zero biases (BERT: 0.02); None for
        torch's own initialisation. Small models fine-tuned at high rates need the latter: weights
        of 0.02 are overwritten within a few steps and the model then reads little but which genes
        are there.
    norm, norm_first, activation
        "layer" or "rms" norms, before each part of a block (then with a last norm behind the
        blocks) or after it, and "gelu" (exact), "relu" or "silu".
    head, tied
        Logits over the input ids: "transform" (linear, activation, norm, projection with bias),
        "sphere" (the state's direction projected without bias, over a learned temperature) or
        "none". If `tied`, the value embedding is the projection.
    classifier, n_classes
        The category whose labels a classifier on `[CLS]` tells apart; it has a logit for each of
        them, or `n_classes` of them that nobody named if `classifier` is None.
    checkpoint_activations, compile
        Switches for training, no facts of the model: compute activations again on the way back to
        save memory; run the blocks through `torch.compile`.

    Raises
    ------
    ConfigError
        If `dim` is not divisible by `n_heads`, a choice is unknown or classes do not fit.
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
        embedding_norm_eps: float | None = None,
        initial_std: float | None = None,
        norm: Norm = "layer",
        norm_first: bool = False,
        activation: Activation = "gelu",
        head: Head = "transform",
        tied: bool = False,
        classifier: str | None = None,
        n_classes: int | None = None,
        checkpoint_activations: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary.from_dict(vocabulary)
        self.vocabulary = vocabulary
        self.size: dict[str, Any] = {
            "dim": dim,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "hidden_dim": hidden_dim,
            "dropout": dropout,
            "layer_norm_eps": layer_norm_eps,
            "embedding_norm_eps": embedding_norm_eps,
            "initial_std": initial_std,
            "norm": norm,
            "norm_first": norm_first,
            "activation": activation,
            "head": head,
            "tied": tied,
            "classifier": classifier,
            "n_classes": n_classes,
        }
        _check(vocabulary, self.size)
        self.classified = classifier
        self.checkpoint_activations, self.compiled = checkpoint_activations, compile
        make_norm = partial(NORMS[norm], dim)
        self.value_embedding = nn.Embedding(vocabulary.n_values, dim, padding_idx=vocabulary.pad_id)
        self.identity_embedding = nn.Embedding(vocabulary.n_types, dim)
        self.embedding_norm = make_norm(
            eps=layer_norm_eps if embedding_norm_eps is None else embedding_norm_eps
        )
        self.dropout = nn.Dropout(dropout)
        block = (dim, n_heads, hidden_dim, dropout, layer_norm_eps, norm, norm_first, activation)
        self.blocks = nn.ModuleList(Block(*block) for _ in range(n_layers))
        self.final_norm = make_norm(eps=layer_norm_eps) if norm_first else nn.Identity()
        self._add_heads()
        if initial_std is not None:
            self.apply(partial(_initialise, std=initial_std))

    def _add_heads(self) -> None:
        size, vocabulary, dim = self.size, self.vocabulary, self.size["dim"]
        kind, n_classes = size["head"], size["n_classes"]
        if kind == "transform":
            self.head_transform = nn.Linear(dim, dim)
            self.head_activation = ACTIVATIONS[size["activation"]]()
            self.head_norm: nn.Module = NORMS[size["norm"]](dim, eps=size["layer_norm_eps"])
        elif kind == "sphere":
            self.head_norm = UnitNorm()
            self.temperature = nn.Parameter(torch.ones(()))
        if kind != "none":
            n, bias = vocabulary.n_values, kind == "transform"
            tied = size["tied"]
            self.head_projector = TiedProjector(n, bias) if tied else nn.Linear(dim, n, bias=bias)
        if self.classified is not None:
            n_classes = len(vocabulary.label_ids(self.classified))
        if n_classes is not None:
            self.classifier = Classifier(dim, n_classes, size["dropout"])

    def embed(self, tokens: TokenBatch) -> Tensor:
        """Total embedding (cells, tokens, dim): value plus identity, after its norm."""
        value_ntd, identity_ntd = self.embed_parts(tokens)
        total_ntd: Tensor = self.embedding_norm(value_ntd + identity_ntd)
        return total_ntd

    def embed_parts(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        """Value and identity embeddings, each (cells, tokens, dim), before they are added."""
        return (
            self.value_embedding(tokens.input_ids_nt),
            self.identity_embedding(tokens.token_type_ids_nt),
        )

    def encode(
        self, embeddings_ntd: Tensor, attention_mask_nt: Tensor, slot: int | None = None
    ) -> Tensor:
        """Hidden states of all positions, or of `slot` alone (cells, 1, dim).

        Reading one slot lets the last block compute a single query; the result is the same.
        """
        x_ntd: Tensor = self.dropout(embeddings_ntd)
        run = self._runner()
        for i, block in enumerate(self.blocks):
            last = i == len(self.blocks) - 1
            x_ntd = run(block, x_ntd, attention_mask_nt, slot if last else None)
        hidden_ntd: Tensor = self.final_norm(x_ntd)
        return hidden_ntd

    def head(self, hidden_ntd: Tensor) -> Tensor:
        """Logits over the input ids; raises `ConfigError` if the model has no such head."""
        kind = self.size["head"]
        if kind == "none":
            raise ConfigError(
                "the model has a classifier and no head over its input ids",
                where="model.head",
                fix="read the category of its classifier (the classes of an imported one get their "
                "names from id2label in its config.json)",
            )
        features_ntd = hidden_ntd
        if kind == "transform":
            features_ntd = self.head_activation(self.head_transform(hidden_ntd))
        tied = (self.value_embedding.weight,) if self.size["tied"] else ()
        logits_ntv: Tensor = self.head_projector(self.head_norm(features_ntd), *tied)
        return logits_ntv / self.temperature if kind == "sphere" else logits_ntv

    def classify(self, embeddings_ntd: Tensor, attention_mask_nt: Tensor) -> Tensor:
        """Logits (cells, classes) of the classifier on `[CLS]`, from total embeddings."""
        logits_nc: Tensor = self.classifier(self.encode(embeddings_ntd, attention_mask_nt, 0)[:, 0])
        return logits_nc

    def read(self, embeddings_ntd: Tensor, attention_mask_nt: Tensor, category: str) -> Tensor:
        """Logits (cells, input ids) for the label of `category`, from total embeddings.

        They are those at the slot of the category; or, if the classifier is for this category,
        the classifier's, in the columns of the labels among zeros.
        """
        if category != self.classified:
            slot = self.vocabulary.slot(category)
            return self.head(self.encode(embeddings_ntd, attention_mask_nt, slot))[:, 0]
        classes_nc = self.classify(embeddings_ntd, attention_mask_nt)
        ids_c = torch.tensor(self.vocabulary.label_ids(category), device=classes_nc.device)
        blank_nv = classes_nc.new_zeros(len(classes_nc), self.vocabulary.n_values)
        return blank_nv.index_copy(1, ids_c, classes_nc)

    def forward(self, tokens: TokenBatch) -> ModelOutput:
        """Logits and hidden states at every position."""
        hidden_ntd = self.encode(self.embed(tokens), tokens.attention_mask_nt)
        return ModelOutput(logits_ntv=self.head(hidden_ntd), hidden_ntd=hidden_ntd)

    def _runner(self) -> Callable[..., Tensor]:
        """How a block is run: as it is, but for the switches of training."""
        if not self.training:
            return run_block
        run = run_compiled if self.compiled else run_block
        if self.checkpoint_activations and torch.is_grad_enabled():
            return partial(checkpoint, run, use_reentrant=False)
        return run


def _check(vocabulary: Vocabulary, size: Mapping[str, Any]) -> None:
    """Refuse what describes no model."""
    if size["dim"] % size["n_heads"]:
        raise ConfigError(
            f"width {size['dim']} cannot be shared by {size['n_heads']} heads",
            where="model",
            expected="dim divisible by n_heads",
        )
    choices = {"norm": NORMS, "activation": ACTIVATIONS, "head": get_args(Head)}
    for name, known in choices.items():
        if size[name] not in known:
            raise ConfigError(
                f"unknown {name} {size[name]!r}",
                where=f"model.{name}",
                expected=f"one of {closest(str(size[name]), known)}",
            )
    classifier, n_classes = size["classifier"], size["n_classes"]
    if size["head"] == "none" and classifier is None and n_classes is None:
        raise ConfigError("a model needs a head or a classifier", where="model.head")
    n_labels = None if classifier is None else len(vocabulary.label_ids(classifier))
    if None not in (n_labels, n_classes) and n_labels != n_classes:
        raise ConfigError(
            f"a classifier of {n_classes} classes does not fit {classifier!r}",
            where="model.n_classes",
            expected=f"{n_labels} labels",
        )


def _initialise(module: nn.Module, std: float) -> None:
    """Normal weights of standard deviation `std`, zero biases, a zero padding embedding."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
