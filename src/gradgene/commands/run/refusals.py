"""What a model from elsewhere must not be given: checked before any work is done with it."""

from __future__ import annotations

from gradgene.checkpoints import LoadedModel
from gradgene.errors import CheckpointError, closest
from gradgene.lit import CellDataModule, StreamDataModule
from gradgene.tokens import Vocabulary

__all__ = [
    "learnt_from",
    "refuse_leak",
    "refuse_same_token",
    "refuse_unknown_labels",
    "unknown_labels",
]


def learnt_from(data: CellDataModule | StreamDataModule, start: LoadedModel | None) -> list[str]:
    """Donors (or cells) that a training learns from or is selected on, with those of its start.

    A model must not be judged on what the model learnt from that it began with, either.
    """
    before = () if start is None else start.trained_on
    return sorted({*before, *data.units("train"), *data.units("validation")})


def refuse_leak(loaded: LoadedModel, data: CellDataModule, where: str) -> None:
    """Raise `CheckpointError` if the model was trained on what it would be judged on.

    `where` is the configuration key that named the model.
    """
    column = loaded.tokenizer.schema.donor
    if loaded.trained_on and column is not None and data.schema.donor is None:
        raise CheckpointError(
            "the model knows which donors it was trained on, and the study has no donors",
            where="study.donor",
            expected=f"the column of the donors, as in the model's training: {column}",
            found="null",
            fix=f"set study.donor={column}",
        )
    judged = {*data.units("test"), *map(str, data.part("test").obs.index)}
    shared = sorted(judged.intersection(loaded.trained_on))
    if shared:
        what = "donors" if data.schema.donor else "cells"
        raise CheckpointError(
            f"the model was trained on {len(shared)} of the {what} it would be judged on: "
            f"{', '.join(shared[:5])}",
            where=where,
            fix="hold out what it was not trained on: the study.seed and data.holdout_donors of "
            "its training, or cells that are new to it",
        )


def refuse_same_token(vocabulary: Vocabulary, category: str, input: str, baseline: str) -> None:
    """Raise `CheckpointError` if the model writes both labels of a contrast as one token."""
    token = vocabulary.layout.token(category, input)
    if token == vocabulary.layout.token(category, baseline):
        raise CheckpointError(
            f"the model has the one token {token} for both {input!r} and {baseline!r}",
            where="study.baseline",
            expected="two labels that the model tells apart",
        )


def refuse_unknown_labels(loaded: LoadedModel, data: CellDataModule, where: str) -> None:
    """Raise `CheckpointError` if cells have labels that a finished model's vocabulary lacks."""
    vocabulary = loaded.vocabulary
    if data.target not in vocabulary.phenotypes:
        raise CheckpointError(
            f"the model does not read the category {data.target!r}",
            where="study.target",
            expected=f"one of {closest(data.target, vocabulary.phenotypes)}",
            fix=f"use a model whose training read it among data.phenotypes, or another {where}",
        )
    for category, unknown in unknown_labels(vocabulary, data).items():
        raise CheckpointError(
            f"the model does not know {len(unknown)} of the labels of {category!r}: "
            f"{', '.join(unknown[:5])}",
            where=where,
            expected=closest(unknown[0], vocabulary.categories[category]),
            fix="leave these cells out with study.filters, or train the model further with "
            "model=pretrained model.path=..., which adds them",
        )


def unknown_labels(vocabulary: Vocabulary, data: CellDataModule) -> dict[str, list[str]]:
    """Category -> labels of the cells without a token; also the target, if it has no slot."""
    # Some models read cells without one of their categories.
    read = [c for c in vocabulary.phenotypes if c in data.schema.phenotypes]
    unknown = {}
    for category in dict.fromkeys((*read, data.target)):
        known = category in vocabulary.phenotypes
        labels = {str(x) for name in data.split.names for x in data.part(name).counts_of(category)}
        missing = sorted(x for x in labels if not (known and vocabulary.knows(category, x)))
        if missing:
            unknown[category] = missing
    return unknown
