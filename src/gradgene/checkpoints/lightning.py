"""Our own Lightning checkpoints, read without Lightning and without unpickling code."""

from __future__ import annotations

from pathlib import Path

from gradgene.checkpoints.loaded import LoadedModel, LoadReport, assemble, schema_from
from gradgene.checkpoints.lora import merge_adapters
from gradgene.checkpoints.tensor_files import plain_content
from gradgene.errors import CheckpointError, GradgeneError
from gradgene.tokens import Tokenizer, Vocabulary

__all__ = ["load_lightning"]

PREFIX = "model."


def load_lightning(file: Path) -> LoadedModel:
    """Read a `.ckpt` that `gradgene train` wrote.

    Raises
    ------
    CheckpointError
        If it is damaged, holds anything but plain types and tensors, or is not one of ours.
    """
    content = plain_content(
        file, fix="use a checkpoint written by `gradgene train`, or its hf/ folder"
    )
    try:
        parameters = dict(content)["hyper_parameters"]
        vocabulary = Vocabulary.from_dict(parameters["vocabulary"])
        size, schema = dict(parameters["size"]), schema_from(parameters["schema"])
        trained_on = [str(name) for name in parameters.get("trained_on", [])]
        tensors = {
            k.removeprefix(PREFIX): v
            for k, v in content["state_dict"].items()
            if k.startswith(PREFIX)
        }
        tensors = merge_adapters(tensors, float(parameters.get("lora_alpha", 1)))
    except (KeyError, TypeError, ValueError, AttributeError, GradgeneError) as error:
        raise CheckpointError(
            "is not a checkpoint of gradgene", where=str(file), found=f"wrong or missing {error}"
        ) from error
    return assemble(
        tokenizer=Tokenizer(vocabulary, schema),
        size=size,
        tensors=tensors,
        report=LoadReport(kind="lightning", path=str(file), n_tensors=len(tensors)),
        trained_on=trained_on,
    )
