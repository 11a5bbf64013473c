"""What the matrix of properties is made of: whom a test is for, the common case, comparing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradgene.attribution import METHODS, AttributionMethod, DirectionScores, Target, build_method
from gradgene.models import MultiHeadAttention, PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import PAD, TokenBatch, mask_category
from tests.attribution.toys import (
    blended_pairs,
    cells_of,
    one_way,
    random_model,
)

#: Relative to the largest score, in float64.
ATOL = 1e-10
PARTS = ("scores_pt", "embedding_pt", "presence_pt")
CLS_AND_TARGET, EOS = [0, 2], 1

#: Methods that are complete up to what they sample, with parameters that leave this much; and how
#: much is left with ReLU, whose kinks lie between nodes (0.07 here; the error falls as 1 / steps).
NEARLY: dict[str, tuple[dict[str, Any], float, float]] = {
    "integrated_gradients": ({"n_steps": 100}, 1e-3, 0.1),
}
EXACTLY: tuple[dict[str, Any], float, float] = ({}, 1e-10, 1e-10)

#: Methods and baselines that do not go together, which the method says.
REFUSED = {
    ("captum_deeplift", "zero"),  # Captum embeds the tokens of the baseline itself
    ("captum_integrated_gradients", "zero"),
}


def those(promise: Callable[[type[AttributionMethod]], bool]) -> pytest.MarkDecorator:
    """Parametrise by the names of the methods whose class says so."""
    return pytest.mark.parametrize("name", [n for n, m in METHODS.items() if promise(m)])


EVERY = those(lambda m: True)

#: Fewer steps where no property here depends on their number and they would take most of the time.
QUICK: dict[str, dict[str, Any]] = {"captum_integrated_gradients": {"n_steps": 5}}


def made(name: str, **parameters: Any) -> AttributionMethod:
    return build_method(name, **QUICK.get(name, {}), **parameters)


def close(found: DirectionScores, expected: DirectionScores, atol: float = ATOL) -> None:
    """Scores and both parts, within `atol` of the largest score."""
    scale = max(float(expected.scores_pt.abs().max()), 1e-3)
    for part in PARTS:
        one, other = getattr(found, part), getattr(expected, part)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=atol * scale)


def nowhere(blended: BlendedBatch) -> Tensor:
    """bool: positions where neither member has a token."""
    return ~blended.input.attention_mask_nt & ~blended.baseline.attention_mask_nt


def is_sound(name: str, blended: BlendedBatch, found: DirectionScores) -> None:
    """What holds of any scores: finite, in their parts, 0 where there is nothing to score."""
    method = METHODS[name]
    assert found.scores_pt.shape == blended.gene_ids_pt.shape
    for part in PARTS:
        value_pt = getattr(found, part)
        assert (value_pt is None) == (part == "presence_pt" and not method.sees_presence)
        if value_pt is not None:
            assert torch.isfinite(value_pt).all()
            assert not value_pt.requires_grad
            assert (value_pt[nowhere(blended)] == 0).all()
    presence_pt = 0 if found.presence_pt is None else found.presence_pt
    torch.testing.assert_close(found.scores_pt, found.embedding_pt + presence_pt)
    if method.needs_baseline:
        assert (found.scores_pt[:, CLS_AND_TARGET] == 0).all()
        assert (found.scores_pt[blended.input.input_ids_nt == EOS] == 0).all()


def f_of(model: PhenotypeGeneTransformer, cells: TokenBatch, asked: Target) -> Tensor:
    """f (cells,) read from every position of the whole sequence, or by the classifier."""
    masked, _ = mask_category(cells, model.vocabulary, asked.category)
    with torch.no_grad():
        model.eval()
        if model.classified == asked.category:
            z_nv = model.read(model.embed(masked), masked.attention_mask_nt, asked.category)
        else:
            z_nv = model(masked).logits_ntv[:, model.vocabulary.slot(asked.category)]
    return asked.bind(model.vocabulary).read(z_nv)


def pair_of(genes: tuple[list[int], list[int]], bins: tuple[list[int], list[int]]) -> BlendedBatch:
    cells = cells_of(genes, bins, torch.tensor([[7, 4], [8, 5]]))
    return blend(cells, torch.tensor([0]), torch.tensor([1]))


@cache
def pairs() -> BlendedBatch:
    return blended_pairs(6, 2)


@cache
def scored(name: str) -> DirectionScores:
    """The common case, worked out once."""
    return one_way(made(name), random_model(1), pairs())


def complete_enough(name: str, model: PhenotypeGeneTransformer, blended: BlendedBatch) -> None:
    parameters, smooth, kinked = NEARLY.get(name, EXACTLY)
    found = one_way(made(name, **parameters), model, blended)
    has_kinks = any(isinstance(module, nn.ReLU) for module in model.modules())
    assert found.relative_delta_p.max() <= (kinked if has_kinks else smooth)


def rows_of(scores: DirectionScores, pair: int, length: int) -> DirectionScores:
    cut: dict[str, Any] = {}
    for part in PARTS:
        value_pt = getattr(scores, part)
        cut[part] = None if value_pt is None else value_pt[pair : pair + 1, :length]
    return replace(scores, **cut)


def laid_out(scores: DirectionScores, order_pt: Tensor) -> DirectionScores:
    def moved(x_pt: Tensor | None) -> Any:
        if x_pt is None:
            return None
        return x_pt.gather(1, order_pt.clamp(min=0)).masked_fill(order_pt < 0, 0)

    return replace(scores, **{part: moved(getattr(scores, part)) for part in PARTS})


def attentions(model: nn.Module) -> list[MultiHeadAttention]:
    return [m for m in model.modules() if isinstance(m, MultiHeadAttention)]


class InterruptedWorkError(Exception):
    """Raised in the middle of a method's work."""


@contextmanager
def interrupted(model: PhenotypeGeneTransformer, way: str, at: int) -> Iterator[list[int]]:
    """Raise when the last block's attention core is passed for the `at`-th time (0: never).

    It is the module whose steps methods replace. Gives the list of passes.
    """
    passed: list[int] = []

    def count(*_: object) -> None:
        passed.append(1)
        if len(passed) == at:
            raise InterruptedWorkError

    def watch(_: nn.Module, __: Any, output: Tensor) -> None:
        if way == "forward":
            count()
        elif output.requires_grad:
            output.register_hook(count)

    core = model.get_submodule(f"blocks.{len(model.blocks) - 1}.attention.core")
    handle = core.register_forward_hook(watch)
    try:
        yield passed
    finally:
        handle.remove()


def wider(cells: TokenBatch, more: int) -> TokenBatch:
    """The cells with `more` positions of padding."""
    fills = (PAD, 0, 0, -1)
    padded: dict[str, Any] = {
        part: nn.functional.pad(x, (0, more), value=fill)
        for (part, x), fill in zip(cells.tensors().items(), fills, strict=True)
    }
    return replace(cells, **padded)


def against_a_bare_row(blended: BlendedBatch) -> BlendedBatch:
    """One pair whose baseline is a row `[CLS] sex disease [EOS]` of its own, written out."""
    header, cells = blended.n_header, blended.cells
    bare = cells_of([[]], [[]], cells.input_ids_nt[blended.input_rows_p, 1:header])
    bare = wider(bare, cells.input_ids_nt.shape[1] - header - 1)
    joined: dict[str, Any] = {
        part: torch.cat([x, bare.tensors()[part]]) for part, x in cells.tensors().items()
    }
    columns_pt = torch.full_like(blended.gene_ids_pt, -1)
    columns_pt[0, :header] = torch.arange(header)
    columns_pt[0, blended.input.input_ids_nt[0] == EOS] = header
    both = replace(cells, **joined)
    return replace(
        blended,
        cells=both,
        baseline_rows_p=torch.tensor([len(cells)]),
        baseline_columns_pt=columns_pt,
    ).with_cells(both)
