"""Accumulate token scores into per-gene sums, donor by donor, in fixed memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from gradgene.attribution import Attribution
from gradgene.errors import AttributionError
from gradgene.genes.importance import Importance, l2_norm, l2_normalise

__all__ = ["GeneSums", "GeneSumsMetric"]


@dataclass(frozen=True)
class GeneSums:
    """Sums over pairs of one method.

    Attributes
    ----------
    sums
        Quantity -> (donors, features) float64. Quantities: each importance's name, its
        `<name>/abs` and `<name>/zero` (number of exact zeros where present), `embedding`,
        `presence` and `present` (number of pairs with the feature). Features are the genes and
        then the phenotype slots.
    n_pairs_d
        Pairs of each donor of the input cell.
    """

    sums: dict[str, np.ndarray]
    n_pairs_d: np.ndarray

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return int(self.n_pairs_d.sum())

    def mean(self, quantity: str) -> np.ndarray:
        """(features,) mean over all pairs, absent counting as 0."""
        return cast(np.ndarray, self.sums[quantity].sum(axis=0) / max(self.n_pairs, 1))

    def mean_present(self, quantity: str) -> np.ndarray:
        """(features,) mean over the pairs with the feature; NaN where there is none."""
        present = self.sums["present"].sum(axis=0)
        total = self.sums[quantity].sum(axis=0)
        nothing = np.full(len(total), np.nan)
        return cast(np.ndarray, np.divide(total, present, out=nothing, where=present > 0))

    def donor_means(self, quantity: str) -> np.ndarray:
        """(donors with pairs, features) mean over each donor's pairs, absent counting as 0."""
        some = self.n_pairs_d > 0
        return cast(np.ndarray, self.sums[quantity][some] / self.n_pairs_d[some, None])


class GeneSumsMetric(Metric):
    """torchmetrics accumulator of `GeneSums`: states of fixed size, summed across processes.

    Memory is O(quantities x donors x genes) whatever the number of pairs.

    Parameters
    ----------
    n_genes, n_phenotypes, n_donors
        Sizes of the states.
    importances
        The importances to accumulate.
    sees_presence
        Whether the method scores presence.
    normalise
        "l2" divides each pair's scores by their norm over gene tokens for every importance;
        `paper_*` ones always do.

    Raises
    ------
    AttributionError
        From `update`, if gene ids or donors are out of range.
    """

    full_state_update = False
    sums: Tensor
    n_pairs_d: Tensor

    def __init__(
        self,
        n_genes: int,
        n_phenotypes: int,
        n_donors: int,
        importances: tuple[Importance, ...],
        sees_presence: bool,
        normalise: str = "none",
    ) -> None:
        super().__init__()
        self.n_genes, self.n_features = n_genes, n_genes + n_phenotypes
        self.n_donors, self.normalise = n_donors, normalise
        self.importances = importances
        self.quantities = [
            *(f"{i.name}{suffix}" for i in importances for suffix in ("", "/abs", "/zero")),
            "embedding",
            *(["presence"] if sees_presence else []),
            "present",
        ]
        zeros = torch.zeros(len(self.quantities), n_donors, self.n_features, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("n_pairs_d", torch.zeros(n_donors, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, attribution: Attribution, donors_p: Tensor) -> None:
        """Add a batch; `donors_p` (pairs,) int64 is the donor of each input cell."""
        features_pt = attribution.gene_ids_pt.clone()
        header = torch.arange(self.n_features - self.n_genes, device=features_pt.device)
        features_pt[:, 1 : attribution.n_header] = self.n_genes + header
        genes_fit = int(attribution.gene_ids_pt.max()) < self.n_genes
        if not genes_fit or int(donors_p.min()) < 0 or int(donors_p.max()) >= self.n_donors:
            raise AttributionError("a gene or donor is outside the planned table")
        kept_pt = features_pt >= 0
        index_k = (donors_p[:, None] * self.n_features + features_pt)[kept_pt]
        for q, values_pt in enumerate(self._values(attribution)):
            values_k = values_pt[kept_pt].to(torch.float64)
            self.sums[q].view(-1).index_add_(0, index_k, values_k)
        self.n_pairs_d += torch.bincount(donors_p, minlength=self.n_donors)

    def compute(self) -> dict[str, Tensor]:
        """The states summed over processes: `sums` and `n_pairs_d`."""
        return {"sums": self.sums, "n_pairs_d": self.n_pairs_d}

    def gene_sums(self) -> GeneSums:
        """The sums so far over all processes, as arrays by quantity."""
        states = {name: state.cpu().numpy() for name, state in self.compute().items()}
        return GeneSums(
            sums=dict(zip(self.quantities, states["sums"], strict=True)),
            # torchmetrics squeezes what has a single entry: one donor comes back as a number.
            n_pairs_d=states["n_pairs_d"].reshape(self.n_donors),
        )

    def _values(self, attribution: Attribution) -> list[Tensor]:
        raw = attribution.forward.scores_pt, attribution.backward.scores_pt
        genes_pt = attribution.gene_ids_pt
        unit = l2_normalise(raw[0], genes_pt), l2_normalise(raw[1], genes_pt)
        values = []
        for importance in self.importances:
            scores = unit if importance.normalised or self.normalise == "l2" else raw
            value = importance.combine(*scores)
            values += [value, value.abs(), (value == 0)]
        # The parts of the forward score, in its units.
        norm_p1 = l2_norm(raw[0], genes_pt) if self.normalise == "l2" else torch.ones(())
        values.append(attribution.forward.embedding_pt / norm_p1.to(raw[0]))
        if "presence" in self.quantities:
            presence_pt = attribution.forward.presence_pt
            assert presence_pt is not None  # declared by the method
            values.append(presence_pt / norm_p1.to(raw[0]))
        values.append(torch.ones_like(raw[0]))
        return values
