"""A model as a folder anyone can read: configuration, weights, vocabulary and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gradgene.checkpoints.card import ModelFacts, model_card
from gradgene.checkpoints.loaded import LoadedModel, LoadReport, assemble, schema_from
from gradgene.errors import CheckpointError, GradgeneError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import Tokenizer, Vocabulary

__all__ = ["MODEL_TYPE", "load_folder", "save_folder"]

MODEL_TYPE = "gradgene-phenotype-gene-transformer"
#: What config.json says for other readers; everything else in it builds the model.
FOR_OTHERS = ("model_type", "architectures", "vocab_size", "type_vocab_size", "pad_token_id")


def save_folder(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    folder: Path,
    trained_on: Sequence[str] = (),
    facts: ModelFacts | None = None,
) -> None:
    """Write config.json, model.safetensors, vocabulary.json and README.md.

    An existing folder is replaced as a whole. Tensors are written as float32 on the CPU under
    their names in the model; `trained_on` is that of `LoadedModel`, and `facts` go into the model
    card.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        written = Path(name) / folder.name
        written.mkdir()
        _write(model, tokenizer, written, trained_on)
        card = model_card(model, tokenizer, trained_on, facts)
        (written / "README.md").write_text(card, encoding="utf-8")
        if folder.is_dir():
            folder.rename(Path(name) / "replaced")
        written.rename(folder)


def _write(
    model: PhenotypeGeneTransformer, tokenizer: Tokenizer, folder: Path, trained_on: Sequence[str]
) -> None:
    config = {
        "model_type": MODEL_TYPE,
        "architectures": [type(model).__name__],
        "vocab_size": model.vocabulary.n_values,
        "type_vocab_size": model.vocabulary.n_types,
        "pad_token_id": model.vocabulary.pad_id,
        **model.size,
        "cells": asdict(tokenizer.schema),
        "trained_on": list(trained_on),
    }
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = json.dumps(model.vocabulary.to_dict())
    (folder / "vocabulary.json").write_text(vocabulary + "\n")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_folder(folder: Path) -> LoadedModel:
    """Read what `save_folder` wrote.

    Raises
    ------
    CheckpointError
        For a missing or damaged file, or tensors that do not fit the configuration.
    """
    missing = [
        name
        for name in ("config.json", "model.safetensors", "vocabulary.json")
        if not (folder / name).is_file()
    ]
    if missing:
        raise CheckpointError(f"lacks {', '.join(missing)}", where=str(folder))
    try:
        size = dict(json.loads((folder / "config.json").read_text()))
        schema = schema_from(size.pop("cells"))
        trained_on = [str(name) for name in size.pop("trained_on", [])]
        vocabulary = Vocabulary.read(folder / "vocabulary.json")
        tensors = load_file(folder / "model.safetensors")
    except (ValueError, OSError, RecursionError, SafetensorError, GradgeneError) as error:
        raise CheckpointError(f"cannot be read: {error}", where=str(folder)) from error
    except (KeyError, TypeError, AttributeError) as error:  # JSON of another shape
        raise CheckpointError(
            "is not a checkpoint of gradgene", where=str(folder), found=f"wrong or missing {error}"
        ) from error
    size = {k: v for k, v in size.items() if k not in FOR_OTHERS}
    return assemble(
        tokenizer=Tokenizer(vocabulary, schema),
        size=size,
        tensors=tensors,
        report=LoadReport(kind="folder", path=str(folder), n_tensors=len(tensors)),
        trained_on=trained_on,
    )
