"""What the two passes of each strategy explain."""

from __future__ import annotations

import torch

from gradgene.pairs import BlendedBatch, CellStateBaseline, EmptyBaseline


def test_cell_state_exchanges_the_members_and_keeps_the_label(tiny_pairs: BlendedBatch) -> None:
    forward, backward = CellStateBaseline().passes(tiny_pairs)
    assert forward.blended is tiny_pairs
    assert torch.equal(backward.blended.input.input_ids_nt, tiny_pairs.baseline.input_ids_nt)
    assert torch.equal(backward.blended.baseline.input_ids_nt, tiny_pairs.input.input_ids_nt)
    assert not forward.mirrored
    assert not backward.mirrored


def test_empty_explains_each_cell_for_its_own_label(tiny_pairs: BlendedBatch) -> None:
    forward, backward = EmptyBaseline().passes(tiny_pairs)
    assert not forward.mirrored
    assert backward.mirrored
    for one, member in ((forward, tiny_pairs.input), (backward, tiny_pairs.baseline)):
        assert torch.equal(one.blended.input.input_ids_nt, member.input_ids_nt)
        assert torch.equal(one.blended.gene_ids_pt, tiny_pairs.gene_ids_pt)
        left = one.blended.baseline.attention_mask_nt.sum(dim=1)
        assert left.tolist() == [5] * len(tiny_pairs)  # [CLS], three phenotypes, [EOS]
        labels = one.blended.baseline.input_ids_nt[:, 1:4]
        assert torch.equal(labels, member.input_ids_nt[:, 1:4])


def test_names_and_promises() -> None:
    assert (CellStateBaseline.name, CellStateBaseline.swaps) == ("cell_state", True)
    assert (EmptyBaseline.name, EmptyBaseline.swaps) == ("empty", False)
