"""Tokenizers of published checkpoints (B1 replaces this file)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gradgene.errors import CheckpointError
from gradgene.tokens import Tokenizer

__all__ = ["peer_tokenizer"]


def peer_tokenizer(
    kind: str, folder: Path, config: Mapping[str, Any], genes: Sequence[str] | None
) -> Tokenizer:
    """Not here yet."""
    raise CheckpointError(f"tokenizers of {kind} cannot be read yet", where=str(folder))
