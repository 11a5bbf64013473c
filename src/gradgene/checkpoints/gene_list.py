"""Gene names for checkpoints that hold none."""

from __future__ import annotations

from collections import Counter

from gradgene.cells.user_files import read_names
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
    names = read_names(path, where, error=CheckpointError)
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise CheckpointError(
            f"{path} names {twice[0]} twice",
            where=where,
            expected="gene names, one a line in the order of the model's gene ids",
        )
    return names
