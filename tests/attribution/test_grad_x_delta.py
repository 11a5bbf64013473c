"""Gradient times difference: the shared-gradient route against plain autograd, pair by pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradgene.attribution import DirectionScores, GradXDelta, Target, joins
from gradgene.attribution.members import Layer, embed_members, read_at
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BaselineStrategy, BlendedBatch, EmptyBaseline, ZeroBaseline, blend
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


def pair_by_pair(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, asked: Target, layer: Layer = "total"
) -> DirectionScores:
    """g(I) ⊙ (E_I - E_B) on each blended, padded input; nothing shared between pairs."""
    masked, _ = mask_category(blended.cells, model.vocabulary, asked.category)
    shown, bound = blended.with_cells(masked), asked.bind(model.vocabulary)
    rows, f = [], []
    with explaining(model):
        both = embed_members(model, shown, layer)
        for p in (slice(p, p + 1) for p in range(len(shown))):
            leaf = both.x_input_ptd[p].clone().requires_grad_(True)
            f_i = read_at(model, layer, leaf, both.mask_input_pt[p], bound)
            f_b = read_at(model, layer, both.x_baseline_ptd[p], both.mask_baseline_pt[p], bound)
            (g,) = torch.autograd.grad(f_i.sum(), leaf)
            rows.append((g * both.difference_ptd[p]).sum(dim=-1))
            f.append(torch.cat([f_i.detach(), f_b]))
    scores_pt, f_2p = torch.cat(rows), torch.stack(f, dim=1)
    return DirectionScores(scores_pt, scores_pt, None, f_2p[0], f_2p[1])


def relative(found: DirectionScores, expected: DirectionScores) -> float:
    """Largest difference of scores over the largest score; f must agree too."""
    for name in ("f_input_p", "f_baseline_p"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    difference_pt = found.scores_pt - expected.scores_pt
    return float(difference_pt.abs().max() / expected.scores_pt.abs().max())


def three_baselines_each(seed: int) -> BlendedBatch:
    """Four inputs against three baselines each; inputs and baselines share cells too."""
    cells = random_cells(9, seed)
    inputs = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 8, 8, 8])
    baselines = torch.tensor([3, 4, 5, 3, 6, 7, 5, 7, 4, 0, 1, 3])
    return blend(cells, inputs, baselines)


def against(blended: BlendedBatch, baseline: str) -> BlendedBatch:
    """The forward pass of the baseline of that name."""
    return blended.without_baseline_genes() if baseline == "empty" else blended.with_blank_genes()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of cells of each gradient taken from now on."""
    cells: list[int] = []
    grad = torch.autograd.grad

    def counting(outputs: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        cells.append(len(inputs))
        return grad(outputs, inputs)

    monkeypatch.setattr(torch.autograd, "grad", counting)
    return cells


class Largest(TorchDispatchMode):
    """Notes the most numbers that any tensor of floating point had."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.n = max(self.n, tensor.numel())
        return found


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

    @pytest.mark.parametrize("layer", ["total", "value", "identity"])
    @pytest.mark.parametrize("baseline", ["cell", "empty", "zero"])
    @pytest.mark.parametrize(
        ("kind", "vocabulary"), [*((k, "category") for k in KINDS), ("probability", "all")]
    )
    def test_layers_and_baselines_equal_pair_by_pair(
        self, layer: Layer, baseline: str, kind: str, vocabulary: str
    ) -> None:
        model, blended = random_model(1), three_baselines_each(1)
        if baseline != "cell":
            blended = against(blended, baseline)
        asked = target(kind, vocabulary)
        found = one_way(GradXDelta(layer=layer), model, blended, asked)
        assert relative(found, pair_by_pair(model, blended, asked, layer)) <= 1e-10
        assert (found.scores_pt[blended.gene_ids_pt >= 0] != 0).any()

    @pytest.mark.parametrize("baseline", [None, EmptyBaseline(), ZeroBaseline()])
    def test_both_directions_equal_pair_by_pair(self, baseline: BaselineStrategy | None) -> None:
        model, blended = random_model(2), three_baselines_each(2)
        found = METHOD.attribute(model, blended, MARGIN, baseline)
        backward, asked = blended.swap(), MARGIN
        if baseline is not None:
            blended, backward = (against(b, baseline.name) for b in (blended, backward))
            asked = MARGIN.mirrored()
        assert relative(found.forward, pair_by_pair(model, blended, MARGIN)) <= 1e-10
        assert relative(found.backward, pair_by_pair(model, backward, asked)) <= 1e-10

    def test_members_that_show_a_part_of_their_cell(self) -> None:
        """A token that is there and not attended to has no gradient; its cell is another one."""
        model, blended = random_model(3), three_baselines_each(3)
        draw = torch.Generator().manual_seed(0)
        off_pt = (torch.rand(blended.gene_ids_pt.shape, generator=draw) < 0.3) & (
            blended.gene_ids_pt >= 0
        )
        columns_pt = blended.input_columns_pt.masked_fill(off_pt, -1)
        # `with_cells` shows the members anew, now without these columns.
        part = replace(blended, input_columns_pt=columns_pt).with_cells(blended.cells)
        found = one_way(METHOD, model, part)
        assert relative(found, pair_by_pair(model, part, MARGIN)) <= 1e-10
        assert (found.scores_pt[off_pt] == 0).all()
        assert len(found.f_input_p.unique()) > len(blended.input_rows_p.unique())


class TestWork:
    """How often the model runs, and on how much at a time."""

    def test_each_distinct_cell_is_differentiated_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        differentiated = counted(monkeypatch)
        one_way(METHOD, random_model(), three_baselines_each(0))
        assert differentiated == [4]

    def test_both_directions_share_the_gradients(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Four inputs and seven baselines, two of which are inputs as well."""
        differentiated = counted(monkeypatch)
        METHOD.attribute(random_model(), three_baselines_each(0), MARGIN)
        assert differentiated == [9]

    def test_own_labels_are_other_scalars(self, monkeypatch: pytest.MonkeyPatch) -> None:
        differentiated = counted(monkeypatch)
        METHOD.attribute(random_model(), three_baselines_each(0), MARGIN, EmptyBaseline())
        assert differentiated == [4, 7]

    def test_few_cells_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, blended = random_model(), three_baselines_each(0)
        expected = METHOD.attribute(model, blended, MARGIN)
        differentiated = counted(monkeypatch)
        found = GradXDelta(forward_tokens=1).attribute(model, blended, MARGIN)
        assert differentiated == [1] * 9
        for one, other in ((found.forward, expected.forward), (found.backward, expected.backward)):
            assert relative(one, other) <= 1e-13

    @pytest.mark.parametrize("baseline", ["cell", "empty", "zero"])
    def test_joins_in_chunks(self, baseline: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model, blended = random_model(), three_baselines_each(0)
        if baseline != "cell":
            blended = against(blended, baseline)
        whole = one_way(METHOD, model, blended)
        monkeypatch.setattr(joins, "CHUNK", 24)  # three tokens of width eight
        assert relative(one_way(METHOD, model, blended), whole) <= 1e-14

    def test_pairs_by_positions_by_width_are_never_in_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cells = random_cells(12, 0)
        blended = blend(cells, torch.arange(6).repeat_interleave(20), 6 + torch.arange(120) % 6)
        monkeypatch.setattr(joins, "CHUNK", 1 << 10)
        largest = Largest()
        with largest:
            GradXDelta(forward_tokens=50).attribute(random_model(), blended, MARGIN)
        assert blended.gene_ids_pt.numel() <= largest.n < 2 * blended.gene_ids_pt.numel()

    def test_some_token_must_fit(self) -> None:
        with pytest.raises(AttributionError, match=r"method\.forward_tokens.*found 0"):
            GradXDelta(forward_tokens=0)

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
