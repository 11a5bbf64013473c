"""Members of pairs: taking some of them, mixing the two, and reading f of both."""

from __future__ import annotations

import pytest
import torch

from gradgene.attribution.members import (
    Layer,
    Members,
    embed_members,
    presence_share,
    read_members,
)
from gradgene.tokens import mask_category
from tests.attribution.matrix import f_of
from tests.attribution.toys import MARGIN, blended_pairs, random_model


def numbered(n_pairs: int = 3, length: int = 4) -> Members:
    """Points that are all different, so that every pair and position is known by its numbers."""
    x_ptd = torch.arange(n_pairs * length * 2.0).reshape(n_pairs, length, 2)
    mask_pt = torch.arange(n_pairs * length).reshape(n_pairs, length) % 3 > 0
    return Members(x_ptd, -x_ptd, 2 * x_ptd, mask_pt, ~mask_pt)


class TestTake:
    def test_the_pairs_asked_for_in_their_order(self) -> None:
        members, rows = numbered(), torch.tensor([2, 0, 2])
        found = members.take(rows)
        assert len(found) == 3
        for name, x in vars(members).items():
            assert torch.equal(getattr(found, name), torch.stack([x[2], x[0], x[2]]))

    def test_as_many_positions_as_asked_for(self) -> None:
        members = numbered()
        found = members.take(torch.tensor([1]), 3)
        for name, x in vars(members).items():
            assert torch.equal(getattr(found, name), x[1:2, :3])

    def test_no_pairs(self) -> None:
        assert len(numbered().take(torch.empty(0, dtype=torch.int64))) == 0

    def test_what_is_taken_is_a_copy(self) -> None:
        """Methods write into it."""
        members = numbered()
        members.take(torch.arange(3), 2).x_input_ptd.zero_()
        assert torch.equal(members.x_input_ptd, numbered().x_input_ptd)


def test_mixed_has_the_state_of_either_member() -> None:
    members = numbered(1)
    x_ptd, mask_pt = members.mixed(torch.tensor([[True, False, False, True]]))
    assert x_ptd[0, :, 1].tolist() == [-1, 3, 5, -7]
    assert mask_pt[0].tolist() == [True, True, True, True]  # 0 and 3: the baseline alone has them


@pytest.mark.parametrize("layer", ["total", "value", "identity"])
def test_f_of_both_members_is_what_the_whole_model_says(layer: Layer) -> None:
    model, blended = random_model(1).eval(), blended_pairs(6, 2)
    expected_n = f_of(model, blended.cells, MARGIN)
    bound = MARGIN.bind(model.vocabulary)
    masked, _ = mask_category(blended.cells, model.vocabulary, MARGIN.category)
    members = embed_members(model, blended.with_cells(masked), layer)
    f_i, f_b = read_members(model, layer, members, bound)
    torch.testing.assert_close(f_i, expected_n[blended.input_rows_p], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(f_b, expected_n[blended.baseline_rows_p], rtol=1e-10, atol=1e-12)
    assert not f_i.requires_grad
    assert not f_b.requires_grad


def test_presence_is_the_identitys() -> None:
    presence_pt = torch.tensor([[0.5, -2.0]])
    assert (presence_share("value", presence_pt) == 0).all()
    assert presence_share("value", presence_pt).shape == presence_pt.shape
    layers: tuple[Layer, ...] = ("total", "identity")
    for layer in layers:
        assert torch.equal(presence_share(layer, presence_pt), presence_pt)
