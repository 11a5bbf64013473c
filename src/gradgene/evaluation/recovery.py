"""How many of the best genes are known to belong to the contrast?"""

from __future__ import annotations

from pathlib import Path

from gradgene.errors import ConfigError
from gradgene.pruning import GeneRanking

__all__ = ["read_known_genes", "recovered"]


def read_known_genes(path: str) -> frozenset[str]:
    """The genes of a file with one gene name a line.

    Raises
    ------
    ConfigError
        For a missing, unreadable or empty file.
    """
    where = "evaluation.known_genes"
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"no such gene list: {file}", where=where)
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}", where=where) from error
    genes = frozenset(line.strip() for line in lines if line.strip())
    if not genes:
        raise ConfigError(f"{file} names no gene", where=where)
    return genes


def recovered(ranking: GeneRanking, known: frozenset[str], top_k: int) -> int:
    """Number of the `top_k` best genes of `ranking` that are `known`."""
    return len(known.intersection(ranking.top(top_k)))
