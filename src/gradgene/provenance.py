"""Where a result comes from: versions, hashes, device."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gradgene import __version__

__all__ = [
    "file_hash",
    "git_commit",
    "program_hash",
    "provenance",
    "redacted",
    "settings_hash",
]

#: Environment variables of such names hold credentials; shorter values are switches.
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_SHORTEST_SECRET = 8
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")

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
#: What decides numbers besides, and is not worth a line in every provenance.
MORE = ("numpy", "pandas", "scikit-learn", "scipy")


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
    """Twelve hex digits that change with this program, its source, and what it reckons with."""
    root = Path(__file__).parent
    sources = {str(f.relative_to(root)): file_hash(f) for f in sorted(root.rglob("*.py"))}
    packages = {name: metadata.version(name) for name in (*PACKAGES, *MORE) if name != "wandb"}
    return settings_hash([__version__, sources, packages])


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


def git_commit(folder: Path) -> str | None:
    """The commit that the git repository around `folder` is at; None outside of one."""
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(
        [git, "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None if found.returncode == 0 else None


def redacted(value: Any) -> Any:
    """The same plain value with `***` for credentials in it, to be shown to others.

    Credentials are the values of environment variables named like `…_KEY` or `…_TOKEN`, and the
    user part of a URL.
    """
    secrets = [
        secret
        for name, secret in os.environ.items()
        if _SECRET.search(name) and len(secret) >= _SHORTEST_SECRET
    ]
    return _without(value, secrets)


def _without(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without(inner, secrets) for inner in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, "***")
    return _USER_IN_URL.sub("***@", value)
