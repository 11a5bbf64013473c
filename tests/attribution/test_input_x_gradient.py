"""Input times gradient: each cell by itself, whatever it is paired with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradgene.attribution import GradXDelta, InputXGradient, Target
from gradgene.attribution.members import Layer, embed_members, read_at
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch, EmptyBaseline, ZeroBaseline, blend
from gradgene.tokens import mask_category
from tests.attribution.test_grad_x_delta import counted
from tests.attribution.toys import KINDS, MARGIN, one_way, random_cells, random_model, target

METHOD = InputXGradient()


def pair_by_pair(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, asked: Target, layer: Layer
) -> Tensor:
    """g(I) ⊙ E_I on each blended, padded input."""
    masked, _ = mask_category(blended.cells, model.vocabulary, asked.category)
    shown, bound = blended.with_cells(masked), asked.bind(model.vocabulary)
    rows = []
    with explaining(model):
        both = embed_members(model, shown, layer)
        parts = dict(zip(("value", "identity"), model.embed_parts(shown.input), strict=True))
        parts["total"] = both.x_input_ptd
        for p in (slice(p, p + 1) for p in range(len(shown))):
            leaf = both.x_input_ptd[p].clone().requires_grad_(True)
            f = read_at(model, layer, leaf, both.mask_input_pt[p], bound)
            (g,) = torch.autograd.grad(f.sum(), leaf)
            rows.append((g * parts[layer][p]).sum(dim=-1))
    return torch.cat(rows)


def two_inputs() -> BlendedBatch:
    """Two inputs against three baselines each."""
    cells = random_cells(6, 1)
    return blend(cells, torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([2, 3, 4, 3, 4, 5]))


@pytest.mark.parametrize("layer", ["total", "value", "identity"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pair_by_pair(layer: Layer, kind: str) -> None:
    model, method = random_model(1), InputXGradient(layer=layer)
    for pairs in (two_inputs(), two_inputs().swap()):
        found = one_way(method, model, pairs, target(kind)).scores_pt
        expected = pair_by_pair(model, pairs, target(kind), layer)
        assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()
        lacks = ~pairs.input.attention_mask_nt
        assert lacks.any() and (found[lacks] == 0).all()
        assert (found[~lacks] != 0).all()


def test_the_baseline_enters_no_score() -> None:
    model, pairs = random_model(1), two_inputs()
    cell, empty, zero = (
        METHOD.attribute(model, pairs, MARGIN, baseline)
        for baseline in (None, EmptyBaseline(), ZeroBaseline())
    )
    for other in (empty, zero):
        scores_pt = other.forward.scores_pt
        torch.testing.assert_close(scores_pt, cell.forward.scores_pt, rtol=1e-11, atol=1e-13)
    assert not torch.equal(cell.forward.f_baseline_p, empty.forward.f_baseline_p)
    # What the baseline scores for itself, a margin the other way round, has the other sign.
    torch.testing.assert_close(empty.backward.scores_pt, -cell.backward.scores_pt)


def test_equals_gradient_times_difference_from_zero() -> None:
    """The zero baseline leaves genes alone to differ, by all of their embedding."""
    model, pairs = random_model(1), two_inputs()
    own = METHOD.attribute(model, pairs, MARGIN, ZeroBaseline()).forward.scores_pt
    other = GradXDelta().attribute(model, pairs, MARGIN, ZeroBaseline()).forward.scores_pt
    genes_pt = pairs.gene_ids_pt >= 0
    torch.testing.assert_close(own[genes_pt], other[genes_pt])
    assert (other[~genes_pt] == 0).all()


def test_both_directions_share_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    differentiated = counted(monkeypatch)
    METHOD.attribute(random_model(), two_inputs(), MARGIN)
    assert differentiated == [6]
