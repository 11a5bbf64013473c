"""Gradient times difference: the shared-gradient route against plain autograd, pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradgene.attribution import DirectionScores, GradXDelta, Target
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import mask_category
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    one_way,
    random_cells,
    random_model,
    target,
)

METHOD = GradXDelta()


def pair_by_pair(model: PhenotypeGeneTransformer, blended: BlendedBatch, asked: Target) -> Tensor:
    """g(I) ⊙ (E_I - E_B) on each blended input, nothing shared between pairs."""
    masked, _ = mask_category(blended.cells, model.vocabulary, asked.category)
    shown, bound = blended.with_cells(masked), asked.bind(model.vocabulary)
    rows = []
    with explaining(model):
        e_i, e_b = model.embed(shown.input), model.embed(shown.baseline)
        for p in range(len(shown)):
            leaf = e_i[p : p + 1].clone().requires_grad_(True)
            logits = model.read(leaf, shown.input.attention_mask_nt[p : p + 1], bound.category)
            (g,) = torch.autograd.grad(bound.read(logits).sum(), leaf)
            rows.append((g * (leaf - e_b[p : p + 1])).sum(dim=-1).detach())
    return torch.cat(rows)


def relative(found: DirectionScores | Tensor, expected: Tensor) -> float:
    scores_pt = found if isinstance(found, Tensor) else found.scores_pt
    return float((scores_pt - expected).abs().max() / expected.abs().max())


def three_baselines_each(seed: int) -> BlendedBatch:
    """Four inputs against three baselines each; inputs and baselines share cells too."""
    cells = random_cells(9, seed)
    inputs = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 8, 8, 8])
    baselines = torch.tensor([3, 4, 5, 3, 6, 7, 5, 7, 4, 0, 1, 3])
    return blend(cells, inputs, baselines)


class TestSharedGradient:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_equals_pair_by_pair(self, kind: str, seed: int) -> None:
        model, blended = random_model(seed), three_baselines_each(seed)
        for pairs in (blended, blended.swap()):
            found = one_way(METHOD, model, pairs, target(kind))
            assert relative(found, pair_by_pair(model, pairs, target(kind))) <= 1e-10

    def test_equals_pair_by_pair_in_float32(self) -> None:
        model, blended = random_model(1, torch.float32), three_baselines_each(1)
        found = one_way(METHOD, model, blended)
        assert relative(found, pair_by_pair(model, blended, MARGIN)) <= 1e-6

    def test_each_distinct_cell_is_differentiated_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows_differentiated: list[int] = []
        grad = torch.autograd.grad

        def counting(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
            rows_differentiated.append(len(inputs))
            return grad(outputs, inputs)

        monkeypatch.setattr(torch.autograd, "grad", counting)
        one_way(METHOD, random_model(), three_baselines_each(0))
        assert rows_differentiated == [4]

    def test_f_is_read_on_each_member(self) -> None:
        model, blended = random_model(), three_baselines_each(0)
        forward, backward = (one_way(METHOD, model, b) for b in (blended, blended.swap()))
        torch.testing.assert_close(forward.f_input_p, backward.f_baseline_p)
        torch.testing.assert_close(forward.f_baseline_p, backward.f_input_p)
        assert len(forward.f_input_p.unique()) == 4
        assert (forward.f_input_p != forward.f_baseline_p).all()


class TestZeros:
    def test_genes_of_the_baseline_alone_and_padding_score_exactly_zero(self) -> None:
        blended = blended_pairs(30, 3)
        scores_pt = one_way(METHOD, random_model(), blended).scores_pt
        in_i, in_b = blended.input.attention_mask_nt, blended.baseline.attention_mask_nt
        for absent in (in_b & ~in_i, ~in_b & ~in_i):
            assert absent.any()
            assert (scores_pt[absent] == 0).all()
        genes = blended.gene_ids_pt >= 0
        assert (scores_pt[genes & in_i & ~in_b] != 0).all()

    def test_equal_embeddings_score_exactly_zero(self) -> None:
        """[CLS], [EOS], the masked disease, and shared genes in the same bin."""
        blended = blended_pairs(30, 3)
        scores_pt = one_way(METHOD, random_model(), blended).scores_pt
        same = (
            (blended.input.input_ids_nt == blended.baseline.input_ids_nt)
            & blended.input.attention_mask_nt
            & blended.baseline.attention_mask_nt
        )
        same[:, 2] = True
        assert (scores_pt[same] == 0).all()
        assert same[:, 3:].sum() > 30

    def test_has_no_presence(self) -> None:
        scores = one_way(METHOD, random_model(), blended_pairs(3))
        assert scores.presence_pt is None
        assert torch.equal(scores.scores_pt, scores.embedding_pt)
