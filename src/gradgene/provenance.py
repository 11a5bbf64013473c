"""Where a result comes from: versions, hashes, device."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gradgene import __version__

__all__ = ["file_hash", "program_hash", "provenance", "settings_hash"]

PACKAGES = (
    "torch",
    "lightning",
    "captum",
    "hydra-core",
    "anndata",
    "scanpy",
    "torchmetrics",
    "wandb",
)


def settings_hash(settings: Mapping[str, Any] | list[Any]) -> str:
    """Twelve hex digits that change whenever a setting changes; key order does not matter."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_hash(file: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@cache
def program_hash() -> str:
    """Twelve hex digits that change with the version of this program, its source, and torch."""
    root = Path(__file__).parent
    sources = {str(f.relative_to(root)): file_hash(f) for f in sorted(root.rglob("*.py"))}
    return settings_hash([__version__, torch.__version__, sources])


def provenance(
    data: Path | None, checkpoint: Path | None, config_hash: str, device: str = "cpu"
) -> dict[str, Any]:
    """Versions of the packages that decide numbers, hashes of the inputs, and the device used.

    `device` is torch's name of it; a GPU is reported by its model.
    """
    return {
        "gradgene": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "data": {"path": str(data), "sha256": file_hash(data)} if data else None,
        "checkpoint": (
            {"path": str(checkpoint), "sha256": file_hash(checkpoint)} if checkpoint else None
        ),
        "config_hash": config_hash,
    }
