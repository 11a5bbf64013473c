"""Scores of single pairs of a sample: what sums over all pairs have forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from gradgene.attribution import Attribution
from gradgene.errors import AttributionError
from gradgene.genes import Importance, l2_normalise

__all__ = ["SampledScores"]


@dataclass(frozen=True)
class SampledScores:
    """One score a pair and gene.

    Attributes
    ----------
    scores_pg
        (pairs, genes) float32 importance of each gene of the panel in each pair that has scores;
        0 where the gene is in neither cell, as in a gene table.
    share_g
        (genes,) share of these pairs in which the gene is in either cell.
    kept
        (pairs,) position of each pair among those asked for, rising.
    """

    scores_pg: np.ndarray
    share_g: np.ndarray
    kept: np.ndarray

    @classmethod
    def of(
        cls,
        attributions: Iterable[tuple[np.ndarray, Attribution]],
        importance: Importance,
        n_pairs: int,
        n_genes: int,
        normalise: str = "none",
    ) -> SampledScores:
        """Gather the scores of batches, in any order.

        Parameters
        ----------
        attributions
            Positions of the pairs of a batch among all `n_pairs`, and their attribution.
        importance
            What makes one score of the two directions.
        n_pairs, n_genes
            Numbers of pairs asked for and of genes of the panel.
        normalise
            "l2": scores divided by their norm over genes, as in `GeneSumsMetric`.

        Raises
        ------
        AttributionError
            If no pair has scores.
        """
        scores_pg = np.zeros((n_pairs, n_genes), dtype=np.float32)
        count_g, seen_p = np.zeros(n_genes, dtype=np.int64), np.zeros(n_pairs, dtype=bool)
        for pairs, found in attributions:
            forward_pt, backward_pt = found.forward.scores_pt, found.backward.scores_pt
            if importance.normalised or normalise == "l2":
                forward_pt = l2_normalise(forward_pt, found.gene_ids_pt)
                backward_pt = l2_normalise(backward_pt, found.gene_ids_pt)
            combined_pt = importance.combine(forward_pt, backward_pt)
            score_pt = combined_pt.detach().to("cpu", torch.float32).numpy()
            genes_pt = found.gene_ids_pt.cpu().numpy()
            row, column = np.nonzero(genes_pt >= 0)
            gene = genes_pt[row, column]
            scores_pg[np.asarray(pairs)[row], gene] = score_pt[row, column]
            count_g += np.bincount(gene, minlength=n_genes)
            seen_p[pairs] = True
        if not seen_p.any():
            raise AttributionError("no pair of the sample has scores", where="attribution.on_error")
        kept = np.flatnonzero(seen_p)
        return cls(scores_pg[kept], count_g / len(kept), kept)

    def __post_init__(self) -> None:
        if self.scores_pg.shape != (len(self.kept), len(self.share_g)):
            raise AttributionError("scores, pairs and genes differ in number")

    @property
    def score_g(self) -> np.ndarray:
        """(genes,) float64 mean over the pairs, absent counting as 0: a gene table's `score`."""
        return np.asarray(self.scores_pg.mean(axis=0, dtype=np.float64))
