"""A trained model for a vocabulary with further labels."""

from __future__ import annotations

import torch
from torch import Tensor

from gradgene.errors import TokenError
from gradgene.models.transformer import PhenotypeGeneTransformer
from gradgene.tokens import Vocabulary

__all__ = ["grown"]

#: Tensors with a row for each input id, each token type, and each class of the classifier.
BY_VALUE = ("value_embedding.weight", "head_projector.weight", "head_projector.bias")
BY_TYPE = ("identity_embedding.weight",)
BY_CLASS = ("classifier.projector.weight", "classifier.projector.bias")


def grown(model: PhenotypeGeneTransformer, vocabulary: Vocabulary) -> PhenotypeGeneTransformer:
    """The model for a vocabulary that `Vocabulary.grown` made of its own; itself if it is the same.

    Every weight goes with its token. A new label begins as the mean of the labels its category had
    (of all labels, for a new category), a new category as the mean of the categories: cells without
    anything new are read as before.

    Raises
    ------
    TokenError
        If the vocabulary lacks something that the model's own has, or differs in genes or bins.
    """
    old = model.vocabulary
    if vocabulary == old:
        return model
    _require_more(old, vocabulary)
    made = PhenotypeGeneTransformer(
        vocabulary,
        **{**model.size, "n_classes": None if model.classified else model.size["n_classes"]},
        checkpoint_activations=model.checkpoint_activations,
        compile=model.compiled,
    )
    tensors = model.state_dict()
    for name, tensor in tensors.items():
        if name in BY_VALUE:
            tensors[name] = _by_value(tensor, old, vocabulary)
        elif name in BY_TYPE:
            tensors[name] = _by_type(tensor, old, vocabulary)
        elif name in BY_CLASS and model.classified is not None:
            n_new = len(vocabulary.label_ids(model.classified)) - len(tensor)
            tensors[name] = torch.cat([tensor, *[tensor.mean(dim=0, keepdim=True)] * n_new])
    made.load_state_dict(tensors)
    return made.train(model.training)


def _by_value(given: Tensor, old: Vocabulary, new: Vocabulary) -> Tensor:
    """Rows by input id."""
    rows = given.new_zeros(new.n_values, *given.shape[1:])
    if new.ids is None:  # special tokens, labels, bins
        n_special = old.bin_offset - sum(len(labels) for labels in old.categories.values())
        rows[:n_special], rows[new.bin_offset :] = given[:n_special], given[old.bin_offset :]
    else:  # new labels behind all the rest
        rows[: old.n_values] = given
    every = [i for category in old.categories for i in old.label_ids(category)]
    for category in new.categories:
        had = list(old.label_ids(category)) if category in old.categories else []
        ids = list(new.label_ids(category))
        rows[ids[: len(had)]] = given[had]
        rows[ids[len(had) :]] = given[had or every].mean(dim=0)
    return rows


def _by_type(given: Tensor, old: Vocabulary, new: Vocabulary) -> Tensor:
    """Rows by token type."""
    if old.n_types == new.n_types:
        return given
    rows = given.new_zeros(new.n_types, *given.shape[1:])
    rows[0], rows[new.gene_offset :] = given[0], given[old.gene_offset :]
    for category in new.categories:
        had = category in old.categories
        row = given[old.category_type(category)] if had else given[1 : old.gene_offset].mean(dim=0)
        rows[new.category_type(category)] = row
    return rows


def _require_more(old: Vocabulary, new: Vocabulary) -> None:
    same = (old.genes, old.bins, old.layout) == (new.genes, new.bins, new.layout)
    kept = all(new.categories.get(c, ())[: len(x)] == x for c, x in old.categories.items())
    slots = new.phenotypes[: len(old.phenotypes)] == old.phenotypes
    if not (same and kept and slots):
        raise TokenError(
            "a model can be grown by labels and categories only",
            expected="the genes, bins, categories and labels it has, in their order, and more",
        )
