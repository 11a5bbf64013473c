"""Gene names for checkpoints that hold none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from gradgene.errors import CheckpointError

__all__ = ["read_gene_list"]


def read_gene_list(path: str | None, where: str) -> tuple[str, ...] | None:
    """Names in a text file, one a line in the order of the model's gene ids; None without a file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or holds no name or one twice; `where` is its configuration key.
    """
    if path is None:
        return None
    file = Path(path).expanduser()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file} cannot be read: {error}",
            where=where,
            expected="a text file of gene names, one a line",
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice or not names:
        raise CheckpointError(
            f"{file} names {twice[0]} twice" if twice else f"{file} names no gene",
            where=where,
            expected="gene names, one a line in the order of the model's gene ids",
        )
    return names
