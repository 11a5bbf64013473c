"""Checkpoints of the published PolyGene family, by the facts in their config.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gradgene.checkpoints.loaded import LoadedModel, LoadReport, assemble
from gradgene.checkpoints.peer_tokenizers import peer_tokenizer
from gradgene.checkpoints.tensor_files import read_tensors
from gradgene.checkpoints.tensor_maps import (
    CAM,
    DV,
    PERTURBGENE,
    PERTURBGENE_CLASSIFIER,
    POLYGENE_BERT,
    TensorMap,
)
from gradgene.errors import CheckpointError, TokenError
from gradgene.tokens import Vocabulary

__all__ = ["FAMILIES", "family_of", "load_published", "read_config"]

Config = Mapping[str, Any]

#: DistilBERT's blocks and heads have this epsilon whatever config.json says of `layer_norm_eps`.
DISTILBERT_EPS = 1e-12


@dataclass(frozen=True)
class Family:
    """One published kind of checkpoint.

    Parameters
    ----------
    recognises
        Whether a config.json is of this kind.
    size
        From config.json to the keywords of our model, but for those of the classifier.
    tensors
        From config.json to the names of its tensors.
    """

    recognises: Callable[[Config], bool]
    size: Callable[[Config], dict[str, Any]]
    tensors: Callable[[Config], TensorMap]


def _architecture(config: Config) -> str:
    names = config.get("architectures")
    return " ".join(map(str, names)) if isinstance(names, list) else str(names)


def _is_classifier(config: Config) -> bool:
    return "Classification" in _architecture(config)


def _is_dv(config: Config) -> bool:
    return "unit_sphere_constraint" in config


def _distilbert_size(config: Config) -> dict[str, Any]:
    return {
        **{name: config[name] for name in ("dim", "n_layers", "n_heads", "hidden_dim")},
        "dropout": config["dropout"],
        "activation": config["activation"],
        "layer_norm_eps": DISTILBERT_EPS,
        "embedding_norm_eps": config["layer_norm_eps"],
        "head": "none" if _is_classifier(config) else "transform",
    }


def _dv_size(config: Config) -> dict[str, Any]:
    if not config["unit_sphere_constraint"] or config.get("head_hidden_layers", 0):
        raise CheckpointError(
            "only heads on the unit sphere without hidden layers are known",
            where="config.json",
            expected="unit_sphere_constraint true, head_hidden_layers 0",
            found=f"{config['unit_sphere_constraint']}, {config.get('head_hidden_layers', 0)}",
        )
    return {**_distilbert_size(config), "head": "sphere", "tied": bool(config["tied"])}


def _dv_tensors(config: Config) -> TensorMap:
    if config["tied"]:
        return DV
    own = {"head_projector.weight": "prediction_head.1.weight"}
    return replace(DV, tensors={**DV.tensors, **own}, copies={})


def _bert_size(config: Config) -> dict[str, Any]:
    return {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "n_heads": config["num_attention_heads"],
        "hidden_dim": config["intermediate_size"],
        "dropout": config["hidden_dropout_prob"],
        "activation": config["hidden_act"],
        "layer_norm_eps": config["layer_norm_eps"],
        "tied": True,
    }


FAMILIES: Mapping[str, Family] = {
    "perturbgene": Family(
        recognises=lambda config: (
            "GeneBertFor" in _architecture(config) and config.get("model_type") == "distilbert"
        ),
        size=_distilbert_size,
        tensors=lambda config: PERTURBGENE_CLASSIFIER if _is_classifier(config) else PERTURBGENE,
    ),
    "polygene_cam": Family(
        recognises=lambda config: _architecture(config) == "Polygene" and not _is_dv(config),
        size=_distilbert_size,
        tensors=lambda _: CAM,
    ),
    "polygene_dv": Family(
        recognises=lambda config: _architecture(config) == "Polygene" and _is_dv(config),
        size=_dv_size,
        tensors=_dv_tensors,
    ),
    "polygene_bert": Family(
        recognises=lambda config: config.get("model_type") == "bert",
        size=_bert_size,
        tensors=lambda _: POLYGENE_BERT,
    ),
}


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises `CheckpointError` if it is missing or no JSON object."""
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError("lacks config.json", where=str(folder))
    try:
        config = json.loads(file.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(file)) from error
    if not isinstance(config, dict):
        raise CheckpointError("is not a JSON object", where=str(file))
    return config


def family_of(config: Config) -> str | None:
    """Name of the published family that a config.json belongs to, None for none of them."""
    return next((name for name, family in FAMILIES.items() if family.recognises(config)), None)


def load_published(folder: Path, kind: str, genes: Sequence[str] | None = None) -> LoadedModel:
    """Read one `checkpoint-*` folder of a published model.

    Parameters
    ----------
    folder
        With config.json and the weights; the tokenizer's files are beside it.
    kind
        A key of `FAMILIES`.
    genes
        Names of the genes in the order of their ids, for models that do not hold them.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, tensors are missing or unknown, or gene names are needed.
    """
    family, config = FAMILIES[kind], read_config(folder)
    try:
        size, tensor_map = family.size(config), family.tensors(config)
    except KeyError as error:
        raise CheckpointError(f"lacks {error}", where=str(folder / "config.json")) from error
    if not isinstance(size["n_layers"], int):
        raise CheckpointError(
            "is no number of layers",
            where=str(folder / "config.json"),
            expected="a whole number",
            found=repr(size["n_layers"]),
        )
    theirs = read_tensors(folder)
    if kind == "polygene_bert":
        theirs = _with_first_token_type(theirs, str(folder))
    tensors = tensor_map.ours(theirs, size["n_layers"], str(folder))
    tokenizer = peer_tokenizer(kind, folder, config, genes)
    if size.get("head") == "none":
        tensors, named = _named_classes(tensors, config, tokenizer.vocabulary)
        size |= named
    return assemble(
        tokenizer=tokenizer,
        size=size,
        tensors=tensors,
        report=LoadReport(kind=kind, path=str(folder), n_tensors=len(theirs)),
    )


def _with_first_token_type(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Position embeddings plus that of token type 0, which every token of this model has."""
    folded = dict(tensors)
    prefix = "bert.embeddings"
    types = folded.pop(f"{prefix}.token_type_embeddings.weight", None)
    positions = folded.get(f"{prefix}.position_embeddings.weight")
    if types is None or positions is None or types.shape[1:] != positions.shape[1:]:
        raise CheckpointError(
            "lacks fitting position and token type embeddings",
            where=where,
            expected=f"{prefix}.position_embeddings.weight and .token_type_embeddings.weight",
        )
    folded[f"{prefix}.position_embeddings.weight"] = positions + types[0]
    return folded


def _named_classes(
    tensors: Mapping[str, Tensor], config: Config, vocabulary: Vocabulary
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The classifier in the order of the category whose labels `id2label` names, if any does.

    The files do not say otherwise what the classes are, and a guess could exchange labels.
    """
    tensors = dict(tensors)
    given = config.get("id2label")
    given = given if isinstance(given, dict) else {}
    names = [str(given.get(str(i))) for i in range(len(tensors["classifier.projector.bias"]))]
    for category, labels in vocabulary.categories.items():
        places = [_place(vocabulary, category, name) for name in names]
        if sorted(places) == list(range(len(labels))):
            order = [places.index(i) for i in range(len(labels))]
            for part in ("classifier.projector.weight", "classifier.projector.bias"):
                tensors[part] = tensors[part][order]
            return tensors, {"classifier": category}
    return tensors, {"n_classes": len(names)}


def _place(vocabulary: Vocabulary, category: str, label: str) -> int:
    """Index of a label of the category, -1 if it has no such label."""
    try:
        return vocabulary.label_index(category, label)
    except TokenError:
        return -1
