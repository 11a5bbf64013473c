"""What a study is judged by: one leaf of `conf/evaluation/`."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from gradgene.errors import ConfigError
from gradgene.evaluation.effects import KnownEffects
from gradgene.evaluation.faithfulness import Faithfulness
from gradgene.evaluation.interactions import Interactions
from gradgene.evaluation.recovery import read_known_genes
from gradgene.evaluation.sanity import Sanity
from gradgene.evaluation.stability import Stability
from gradgene.genes import GeneSets

__all__ = ["Evaluation", "Evidence"]


@dataclass(frozen=True)
class Evidence:
    """The content of an evaluation's files; None for what it does not name.

    Attributes
    ----------
    known_genes
        Names of known genes.
    effects
        Published effects: `label, gene, log_fold_change`.
    gene_sets
        The gene sets of all files.
    """

    known_genes: frozenset[str] | None
    effects: pd.DataFrame | None
    gene_sets: GeneSets | None


@dataclass(frozen=True)
class Evaluation:
    """What a study is judged by: what is known of the contrast, and what its own model says.

    Parameters
    ----------
    known_genes
        File with one gene name a line: how many of each ranking's best genes are in it; or None.
    top_k
        How many of the best genes to look at, here and in the gene sets.
    effects
        Published fold changes: how each ranking agrees with them; or None.
    gene_sets
        GMT files: which of their sets the best genes of the main method fall into. Needs the
        extra `enrichment`.
    faithfulness
        Whether the model follows the genes that the scores name; or None.
    sanity
        Whether random weights, genes or labels would give the same ranking; or None.
    stability
        Whether other pairs, donors or methods would give the same ranking; or None.
    interactions
        Which of the best genes the model reads together; or None.

    Raises
    ------
    ConfigError
        If no gene is to be looked at.
    """

    known_genes: str | None = None
    top_k: int = 30
    effects: KnownEffects | None = None
    gene_sets: tuple[str, ...] = ()
    faithfulness: Faithfulness | None = None
    sanity: Sanity | None = None
    stability: Stability | None = None
    interactions: Interactions | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ConfigError(
                "looks at no gene",
                where="evaluation.top_k",
                expected="1 or more",
                found=str(self.top_k),
            )

    def read(self) -> Evidence:
        """Read every file, so that a wrong one is known before work begins.

        Raises
        ------
        ConfigError
            If one is missing or does not hold what it should.
        """
        return Evidence(
            None if self.known_genes is None else read_known_genes(self.known_genes),
            None if self.effects is None else self.effects.read(),
            GeneSets.read(*self.gene_sets) if self.gene_sets else None,
        )
