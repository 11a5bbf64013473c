"""Tensors from files, without running any code that the files may hold."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gradgene.errors import CheckpointError

__all__ = ["WEIGHTS", "plain_content", "read_tensors", "weights_in"]

#: Names of the file with the weights, the better one first.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: What `torch.load` raises for hostile, cut-off and foreign files; LookupError is its unpickler's.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)


def plain_content(file: Path, fix: str | None = None) -> Any:
    """What `torch.save` wrote, if it is tensors and plain types; else `CheckpointError`."""
    try:
        with warnings.catch_warnings():
            # Of foreign files torch warns before it fails; the error below says it once.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            "cannot be read as weights and plain types", where=str(file), found=reason, fix=fix
        ) from error


def weights_in(folder: Path) -> Path:
    """The file with the weights in a folder; raises `CheckpointError` if there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"holds no {' or '.join(WEIGHTS)}", where=str(folder))


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Name -> tensor of the folder's weights.

    Raises
    ------
    CheckpointError
        If there are none, or the file is damaged or holds anything but tensors.
    """
    file = weights_in(folder)
    if file.name == WEIGHTS[0]:
        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"cannot be read: {error}", where=str(file)) from error
    content = plain_content(file)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            "holds no weights", where=str(file), expected="a mapping of names to tensors"
        )
    return dict(content)
