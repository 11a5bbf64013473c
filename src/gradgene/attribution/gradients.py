"""One gradient for each distinct cell, joined to any number of baselines (spec 0 §5)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradgene.attribution.distinct import DistinctCells, distinct_cells, members_of
from gradgene.attribution.joins import CellGradients
from gradgene.attribution.members import read_at
from gradgene.attribution.method import DirectionScores, EmbeddingMethod, require_positive
from gradgene.attribution.target import BoundTarget, Target
from gradgene.halving import in_halves, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, Pass
from gradgene.tokens import padded

__all__ = ["CellGradientMethod"]

#: Tokens of cells differentiated together where nobody says; more is no faster on a CPU.
FORWARD_TOKENS = 8192


@dataclass(frozen=True)
class CellGradientMethod(EmbeddingMethod):
    """A method whose scores follow from the gradient at the input and from both embeddings.

    The gradient is taken once for each distinct cell of a batch, and both directions share it where
    they explain the same scalar. Only one small batch of cells has its gradients in memory at a
    time: the pairs whose input it holds are joined at once.

    Parameters
    ----------
    forward_tokens
        Padded tokens of the cells that are differentiated together; "auto" leaves the number to
        who attributes. It bounds memory and changes no score; cells that do not fit in memory are
        differentiated in halves.

    Raises
    ------
    AttributionError
        If `forward_tokens` is not positive.
    """

    forward_tokens: int | Literal["auto"] = FORWARD_TOKENS

    complete: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False
    sees_presence: ClassVar[bool] = False
    per_cell: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forward_tokens != "auto":
            require_positive("forward_tokens", self.forward_tokens)

    def holding(self, n_tokens: int) -> CellGradientMethod:
        """This method with so many tokens at a time, where its own settings do not say."""
        return replace(self, forward_tokens=n_tokens) if self.forward_tokens == "auto" else self

    def backward_rules(self, model: PhenotypeGeneTransformer) -> AbstractContextManager[None]:
        """Inside, the model has the gradients that the method takes: its own unless changed."""
        return nullcontext()

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        return self._all_ways(model, [blended], target)[0]

    def _both_ways(
        self,
        model: PhenotypeGeneTransformer,
        passes: tuple[Pass, Pass],
        target: Target,
        swaps: bool,
    ) -> tuple[DirectionScores, DirectionScores]:
        """Both directions from the same gradients, unless they explain two scalars."""
        one, other = (p.blended for p in passes)
        if passes[1].mirrored or one.cells is not other.cells:
            return super()._both_ways(model, passes, target, swaps)
        forward, backward = self._all_ways(model, [one, other], target.bind(model.vocabulary))
        return forward, backward

    def _all_ways(
        self, model: PhenotypeGeneTransformer, passes: list[BlendedBatch], target: BoundTarget
    ) -> list[DirectionScores]:
        """Scores of passes over the same cells for the same scalar."""
        members = [member for one in passes for member in members_of(one)]
        cells, of = distinct_cells(passes[0].cells, members)
        weight = next(model.parameters())
        f_n = weight.new_zeros(len(cells.tokens))
        scores = [weight.new_zeros(one.gene_ids_pt.shape) for one in passes]
        is_input_n = torch.zeros_like(f_n, dtype=torch.bool)
        is_input_n[torch.cat(of[::2])] = True

        def explain(rows: Tensor) -> None:
            f_n[rows], done = self._differentiated(model, cells, rows, target)
            for one, of_p, scores_pt in zip(passes, of[::2], scores, strict=True):
                if self.needs_baseline:
                    done.differences(model, self.layer, one, of_p, scores_pt)
                else:
                    done.products(one, of_p, scores_pt)

        @torch.no_grad()
        def read(rows: Tensor) -> None:
            x_ntd, _, mask_nt = cells.embed(model, rows, self.layer)
            f_n[rows] = read_at(model, self.layer, x_ntd, mask_nt, target)

        at_once = FORWARD_TOKENS if self.forward_tokens == "auto" else self.forward_tokens
        limit, lengths_n = limit_of(model, f"{self.name}, cells"), cells.tokens.n_tokens_n
        for work, rows_n in ((explain, is_input_n), (read, ~is_input_n)):
            for rows in cells.batches(rows_n.nonzero()[:, 0], at_once):
                in_halves(work, rows, lambda some: padded(lengths_n[some]), limit)
        return [
            DirectionScores.of_parts(scores_pt, None, f_n[inputs_p], f_n[baselines_p])
            for scores_pt, inputs_p, baselines_p in zip(scores, of[::2], of[1::2], strict=True)
        ]

    def _differentiated(
        self,
        model: PhenotypeGeneTransformer,
        cells: DistinctCells,
        rows: Tensor,
        target: BoundTarget,
    ) -> tuple[Tensor, CellGradients]:
        """f (rows,) of some cells, and their gradients."""
        x_ntd, part_ntd, mask_nt = cells.embed(model, rows, self.layer)
        leaf_ntd = x_ntd.detach().requires_grad_(True)
        with self.backward_rules(model):
            f_n = read_at(model, self.layer, leaf_ntd, mask_nt, target)
            (gradient_ntd,) = torch.autograd.grad(f_n.sum(), leaf_ntd)
        return f_n.detach(), CellGradients(cells, rows, gradient_ntd, part_ntd)
