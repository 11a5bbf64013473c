"""Against what an input cell is explained: one file entry a strategy, chosen by `baseline=`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gradgene.pairs.blending import BlendedBatch

__all__ = ["BaselineStrategy", "CellStateBaseline", "EmptyBaseline", "Pass"]


@dataclass(frozen=True)
class Pass:
    """One direction of a pair: what is explained against what, and for whose label.

    `mirrored` is True when the explained cell is the baseline cell and the scalar must be read
    for that cell's own label.
    """

    blended: BlendedBatch
    mirrored: bool


class BaselineStrategy(ABC):
    """How a matched pair becomes a forward and a backward pass."""

    name: ClassVar[str]
    #: The backward pass is the forward pass with input and baseline exchanged.
    swaps: ClassVar[bool]

    @abstractmethod
    def passes(self, blended: BlendedBatch) -> tuple[Pass, Pass]:
        """The forward and the backward pass of `blended`; positions stay aligned."""


@dataclass(frozen=True)
class CellStateBaseline(BaselineStrategy):
    """A matched cell of the other label is the baseline; backward exchanges the two."""

    name: ClassVar[str] = "cell_state"
    swaps: ClassVar[bool] = True

    def passes(self, blended: BlendedBatch) -> tuple[Pass, Pass]:
        """Input against baseline, then baseline against input, both for the input's label."""
        return Pass(blended, mirrored=False), Pass(blended.swap(), mirrored=False)


@dataclass(frozen=True)
class EmptyBaseline(BaselineStrategy):
    """Each cell against its own phenotypes without genes (paper, appendix A.7)."""

    name: ClassVar[str] = "empty"
    swaps: ClassVar[bool] = False

    def passes(self, blended: BlendedBatch) -> tuple[Pass, Pass]:
        """The input cell for its label, then the baseline cell for its own label."""
        return (
            Pass(blended.without_baseline_genes(), mirrored=False),
            Pass(blended.swap().without_baseline_genes(), mirrored=True),
        )
