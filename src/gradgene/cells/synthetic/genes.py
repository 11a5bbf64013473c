"""What each gene of planted cells is, and which of them a ranking is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import anndata as ad

from gradgene.errors import CellsError

__all__ = ["CAUSAL", "NEUTRAL", "PlantedGenes"]

#: Roles that decide the label, and those that are neither right nor wrong (copies of the former).
CAUSAL = ("main_up", "main_down", "xor")
NEUTRAL = ("copy",)

Pair = tuple[str, str]


@dataclass(frozen=True)
class PlantedGenes:
    """What each gene of synthetic cells is.

    Attributes
    ----------
    roles
        Gene -> "main_up" or "main_down" (alone decide the label), "xor" (decides it together with
        its partner and is silent alone), "copy" (of one of these), or what is not to be found:
        "decoy" (always on), "ambient", "batch", "null".
    xor_pairs
        The pairs whose label is that of exactly one being on.
    """

    roles: Mapping[str, str]
    xor_pairs: tuple[Pair, ...]

    @classmethod
    def of(cls, adata: ad.AnnData) -> PlantedGenes:
        """The genes of planted cells, from `var` and `uns`."""
        roles = {str(gene): str(role) for gene, role in adata.var["role"].items()}
        return cls(roles, tuple((str(a), str(b)) for a, b in adata.uns["xor_pairs"]))

    def __post_init__(self) -> None:
        xor = {gene for gene, role in self.roles.items() if role == "xor"}
        paired = [gene for pair in self.xor_pairs for gene in pair]
        if sorted(paired) != sorted(xor):
            raise CellsError(
                "planted pairs and genes of role 'xor' differ",
                where="xor_pairs",
                expected=", ".join(sorted(xor)),
                found=", ".join(sorted(paired)),
            )

    @property
    def causal(self) -> frozenset[str]:
        """Genes that decide the label."""
        return self.of_role(*CAUSAL)

    @property
    def neutral(self) -> frozenset[str]:
        """Copies: to name one is neither right nor wrong."""
        return self.of_role(*NEUTRAL)

    def of_role(self, *roles: str) -> frozenset[str]:
        """Genes of one of these roles."""
        return frozenset(gene for gene, role in self.roles.items() if role in roles)

    def judged(self, learnt: frozenset[Pair]) -> frozenset[str]:
        """Genes that a ranking is judged on: no copies, no pair that is not `learnt`."""
        unlearnt = {gene for pair in self.xor_pairs if pair not in learnt for gene in pair}
        return frozenset(self.roles) - self.neutral - unlearnt
