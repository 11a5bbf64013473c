"""How many of the best genes are known to belong to the contrast?"""

from __future__ import annotations

from gradgene.cells.user_files import read_names
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
    return frozenset(read_names(path, "evaluation.known_genes", error=ConfigError))


def recovered(ranking: GeneRanking, known: frozenset[str], top_k: int) -> int:
    """Number of the `top_k` best genes of `ranking` that are `known`."""
    return len(known.intersection(ranking.top(top_k)))
