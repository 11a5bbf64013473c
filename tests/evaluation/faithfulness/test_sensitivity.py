"""Sensitivity on a sum, where the change of scores is known, and which bins move."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gradgene.errors import AttributionError
from gradgene.evaluation import max_sensitivity
from gradgene.evaluation.faithfulness.sensitivity import with_moved_bins
from gradgene.pairs import BlendedBatch
from tests.attribution.toys import VOCABULARY, blended_pairs
from tests.evaluation.faithfulness.linear import contributions, linear, pair


def test_one_gene_by_hand() -> None:
    """g0 at bin 2 gives 6; a bin more or less is 3 of 6."""
    model = linear(3)
    blended = pair([0], [2], [1], [1])
    found = max_sensitivity(lambda b: contributions(model, b), blended, VOCABULARY)
    assert found.tolist() == pytest.approx([0.5])


def test_the_largest_of_many_draws_is_the_heaviest_gene() -> None:
    """One of four genes moves: by 1, 2, 3 or 4, of a norm of √(1 + 4 + 9 + 16)."""
    model = linear(1, 2, 3, 4)
    blended = pair([0, 1, 2, 3], [1] * 4, [5], [1])
    found = [
        float(max_sensitivity(lambda b: contributions(model, b), blended, VOCABULARY, n))
        for n in (1, 40)
    ]
    assert found[1] == pytest.approx(4 / 30**0.5) and found[0] <= found[1]


def test_scores_that_do_not_look_at_the_cell_have_none() -> None:
    blended = blended_pairs(5)

    def constant(pairs: BlendedBatch) -> Tensor:
        return torch.where(pairs.gene_ids_pt >= 0, 1.0, torch.nan)

    assert max_sensitivity(constant, blended, VOCABULARY).tolist() == [0] * 5


def test_scores_of_nothing_have_no_relative_change() -> None:
    blended = blended_pairs(2)
    found = max_sensitivity(lambda b: torch.zeros(b.gene_ids_pt.shape), blended, VOCABULARY)
    assert found.isnan().all()


def test_a_few_bins_of_the_inputs_move_by_one_and_no_gene_comes_or_goes() -> None:
    blended = blended_pairs(30, seed=1)
    draw = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(20):
        moved = with_moved_bins(blended, VOCABULARY, draw)
        step_pt = moved.input.input_ids_nt - blended.input.input_ids_nt
        assert torch.equal(step_pt.abs().sum(dim=1), torch.ones(30, dtype=torch.int64))
        assert not step_pt[blended.gene_ids_pt < 0].any()
        assert torch.equal(moved.baseline.input_ids_nt, blended.baseline.input_ids_nt)
        assert torch.equal(moved.input.gene_ids_nt, blended.input.gene_ids_nt)
        bins = moved.input.input_ids_nt[moved.input.gene_ids_nt >= 0] - VOCABULARY.bin_offset
        assert int(bins.min()) >= 1 and int(bins.max()) <= len(VOCABULARY.bins)
        seen += step_pt[step_pt != 0].tolist()
    assert {-1, 1} == set(seen)


def test_the_same_seed_moves_the_same_bins() -> None:
    model, blended = linear(3, -1, 2, 5, -4, 1), blended_pairs(6)
    found = [
        max_sensitivity(lambda b: contributions(model, b), blended, VOCABULARY, 1, seed)
        for seed in (0, 0, 1)
    ]
    assert found[0].equal(found[1]) and not found[0].equal(found[2])


def test_one_bin_is_refused() -> None:
    one = replace(VOCABULARY, bin_edges=(0.1,))
    with pytest.raises(AttributionError, match="two bins"):
        with_moved_bins(blended_pairs(2), one, torch.Generator())
