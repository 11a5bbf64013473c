"""Against what an input cell is explained: one file entry a strategy, chosen by `baseline=`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gradgene.cells import Cells
from gradgene.pairs.averaging import with_mean_controls
from gradgene.pairs.blending import BlendedBatch
from gradgene.pairs.plan import PairPlan

__all__ = [
    "BASELINES",
    "BaselineStrategy",
    "CellStateBaseline",
    "EmptyBaseline",
    "MeanBaseline",
    "Pass",
    "ZeroBaseline",
]


@dataclass(frozen=True)
class Pass:
    """One direction of a pair: what is explained against what, and for whose label.

    `mirrored` is True when the explained cell is the baseline cell and the scalar must be read
    for that cell's own label.
    """

    blended: BlendedBatch
    mirrored: bool


class BaselineStrategy(ABC):
    """How a matched pair becomes a forward and a backward pass.

    `arrange` may first change which cells the pairs are made of. `swaps` says that the backward
    pass is the forward pass with input and baseline exchanged; importances follow from it.
    `has_tokens` says that every embedding of the baseline is that of a token.
    """

    name: ClassVar[str]
    swaps: ClassVar[bool]
    has_tokens: ClassVar[bool] = True

    def arrange(self, cells: Cells, plan: PairPlan) -> tuple[Cells, PairPlan]:
        """Prepared cells and the plan as they are to be blended; here, as they came.

        Positions of the cells given stay valid; whoever reads `plan` afterwards needs these cells.
        """
        return cells, plan

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


@dataclass(frozen=True)
class ZeroBaseline(BaselineStrategy):
    """Each cell against itself with the embedding of every gene zero, its tokens still attended to.

    Unlike with the empty baseline attention keeps its keys, so no presence is explained; a zero
    embedding is one that no gene has. Phenotypes and special tokens are as in the cell.
    """

    name: ClassVar[str] = "zero"
    swaps: ClassVar[bool] = False
    has_tokens: ClassVar[bool] = False

    def passes(self, blended: BlendedBatch) -> tuple[Pass, Pass]:
        """The input cell for its label, then the baseline cell for its own label."""
        return (
            Pass(blended.with_blank_genes(), mirrored=False),
            Pass(blended.swap().with_blank_genes(), mirrored=True),
        )


@dataclass(frozen=True)
class MeanBaseline(CellStateBaseline):
    """The mean of the matched controls is the baseline; backward exchanges the two.

    Averaged are the prepared values of all cells of the baseline's label that equal the input on
    `match_on` among the cells given, so never across a split; see `with_mean_controls`. One pair
    an input cell, also where `pairs.file` or `per_cell` name several; of a file only the inputs
    count. In Python, `cells, plan = MeanBaseline().arrange(cells, plan)` before blending.

    A mean looks like no cell: on 2,000 genes of Kang's blood cells it shows 1,279 to 1,792 (a cell
    464 in the middle), 82 % of them in the lowest bin, where 1 % of a cell's are. What a model says
    of it is far from what it was trained on, and pairs with it take longer.
    """

    name: ClassVar[str] = "mean"

    def arrange(self, cells: Cells, plan: PairPlan) -> tuple[Cells, PairPlan]:
        """The cells followed by the averaged ones, and the plan with these as baselines.

        Raises
        ------
        PairError
            If the cells are not prepared, or the stratum of an input cell has no control.
        """
        return with_mean_controls(cells, plan)


#: Strategy name -> class; adding one is a class, a line here and a leaf in `conf/baseline/`.
BASELINES: dict[str, type[BaselineStrategy]] = {
    b.name: b for b in (CellStateBaseline, EmptyBaseline, ZeroBaseline, MeanBaseline)
}
