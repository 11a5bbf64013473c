"""Our own Lightning checkpoints, read without Lightning and without unpickling code."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch

from gradgene.checkpoints.loaded import LoadedModel, LoadReport, assemble, schema_from
from gradgene.errors import CheckpointError, GradgeneError
from gradgene.tokens import Vocabulary

__all__ = ["load_lightning"]

PREFIX = "model."
#: What `torch.load` raises for hostile, cut-off and foreign files; LookupError is its unpickler's.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)


def load_lightning(file: Path) -> LoadedModel:
    """Read a `.ckpt` that `gradgene train` wrote.

    Raises
    ------
    CheckpointError
        If it is damaged, holds anything but plain types and tensors, or is not one of ours.
    """
    try:
        with warnings.catch_warnings():
            # Of foreign files torch warns before it fails; the error below says it once.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            "cannot be read as weights and plain types",
            where=str(file),
            found=reason,
            fix="use a checkpoint written by `gradgene train`, or its hf/ folder",
        ) from error
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
    except (KeyError, TypeError, ValueError, AttributeError, GradgeneError) as error:
        raise CheckpointError(
            "is not a checkpoint of gradgene", where=str(file), found=f"wrong or missing {error}"
        ) from error
    return assemble(
        vocabulary=vocabulary,
        size=size,
        schema=schema,
        tensors=tensors,
        report=LoadReport(kind="lightning", path=str(file), n_tensors=len(tensors)),
        trained_on=trained_on,
    )
