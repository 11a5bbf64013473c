"""How many of the best genes are known to belong to the contrast?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradgene.errors import ConfigError
from gradgene.pruning import GeneRanking

__all__ = ["KnownGenes", "recovered"]


@dataclass(frozen=True)
class KnownGenes:
    """Evaluation against a list of known genes.

    Parameters
    ----------
    known_genes
        File with one gene name a line, or None for no such evaluation.
    top_k
        How many of the best genes to look at.
    """

    known_genes: str | None = None
    top_k: int = 30

    def read(self) -> frozenset[str] | None:
        """The genes, or None; raises `ConfigError` for a missing or empty file."""
        if self.known_genes is None:
            return None
        file = Path(self.known_genes).expanduser()
        if not file.is_file():
            raise ConfigError(f"no such gene list: {file}", where="evaluation.known_genes")
        genes = frozenset(line.strip() for line in file.read_text().splitlines() if line.strip())
        if not genes:
            raise ConfigError(f"{file} names no gene", where="evaluation.known_genes")
        return genes


def recovered(ranking: GeneRanking, known: frozenset[str], top_k: int) -> int:
    """Number of the `top_k` best genes of `ranking` that are `known`."""
    return len(known.intersection(ranking.top(top_k)))
