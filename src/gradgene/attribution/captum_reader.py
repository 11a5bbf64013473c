"""The model as Captum wants it, and what every method that calls Captum has in common."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gradgene.attribution.members import Layer, embed_members, read_members
from gradgene.attribution.method import DirectionScores, EmbeddingMethod
from gradgene.attribution.target import BoundTarget
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch

__all__ = ["CaptumMethod", "CaptumReader", "Inputs"]

#: Input ids, token types and attention mask of one cell, each (1, positions).
Inputs = tuple[Tensor, Tensor, Tensor]

#: The module whose output is a layer.
MODULES: dict[Layer, str] = {
    "total": "embedding_norm",
    "value": "value_embedding",
    "identity": "identity_embedding",
}


class CaptumReader(nn.Module):
    """A model as Captum wants it: tensors in, one number a row out.

    The head reads every position, as in the paper's code, and one of them is taken; a classifier
    reads `[CLS]`.
    """

    def __init__(self, model: PhenotypeGeneTransformer, target: BoundTarget) -> None:
        super().__init__()
        self.model, self.target = model, target

    def forward(self, ids_nt: Tensor, types_nt: Tensor, mask_nt: Tensor) -> Tensor:
        """f (rows,) of input ids, token types and attention mask, each (rows, positions)."""
        category = self.target.category
        tokens = TokenBatch(ids_nt, types_nt, mask_nt, torch.full_like(ids_nt, -1))
        if category == self.model.classified:
            logits_nv = self.model.read(self.model.embed(tokens), mask_nt, category)
        else:
            logits_nv = self.model(tokens).logits_ntv[:, self.model.vocabulary.slot(category)]
        return self.target.read(logits_nv)


@dataclass(frozen=True)
class CaptumMethod(EmbeddingMethod):
    """A method that hands one pair after the other to Captum, in each direction.

    Parameters
    ----------
    layer
        As for every `EmbeddingMethod`: which module's output Captum is told to explain.

    Raises
    ------
    AttributionError
        For a baseline that tokens cannot say, such as zero embeddings.
    """

    needs_tokens: ClassVar[bool] = True

    @abstractmethod
    def explain(self, reader: CaptumReader, layer: nn.Module, i: Inputs, b: Inputs) -> Tensor:
        """Captum's scores (1, positions, dim) of input `i` against baseline `b` at `layer`."""

    def one_way(
        self, model: PhenotypeGeneTransformer, blended: BlendedBatch, target: BoundTarget
    ) -> DirectionScores:
        """Scores of the input against the baseline; the target is already masked."""
        reader = CaptumReader(model, target).eval()
        layer = model.get_submodule(MODULES[self.layer])
        scores_pt = torch.zeros_like(blended.gene_ids_pt, dtype=next(model.parameters()).dtype)
        with _undisturbed(model):
            for p in range(len(blended)):
                shown_t, i, b = _pair(blended, p, model)
                scores_t = self.explain(reader, layer, i, b).detach().sum(dim=-1)[0]
                scores_pt[p, shown_t] = scores_t.to(scores_pt)  # Captum may answer in float32
        f_i, f_b = read_members(model, "total", embed_members(model, blended), target)
        return DirectionScores.of_parts(scores_pt, None, f_i, f_b)


def _pair(
    blended: BlendedBatch, p: int, model: PhenotypeGeneTransformer
) -> tuple[Tensor, Inputs, Inputs]:
    """Pair `p` without the padding of its batch: bool (positions,) of what is left; members."""
    i, b = blended.input, blended.baseline
    shown_t = i.attention_mask_nt[p] | b.attention_mask_nt[p]
    shown_t[: 1 + len(model.vocabulary.phenotypes)] = True  # the target keeps its slot

    def of(member: TokenBatch) -> Inputs:
        return (
            member.input_ids_nt[p : p + 1, shown_t],
            member.token_type_ids_nt[p : p + 1, shown_t],
            member.attention_mask_nt[p : p + 1, shown_t],
        )

    return shown_t, of(i), of(b)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Take back what Captum sets on modules; its announcement of doing so is not the user's."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
            yield
    finally:
        # Captum removes its hooks, but not the activations it kept where something failed.
        for module, names in before.items():
            for name in set(vars(module)) - names:
                delattr(module, name)
