"""What the two passes of each strategy explain."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from gradgene.commands.config.targets import locate
from gradgene.pairs import (
    BASELINES,
    BlendedBatch,
    CellStateBaseline,
    EmptyBaseline,
    MeanBaseline,
    ZeroBaseline,
)

LEAVES = Path(__file__).resolve().parents[2] / "conf" / "baseline"


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


def test_zero_explains_each_cell_against_its_own_tokens(tiny_pairs: BlendedBatch) -> None:
    forward, backward = ZeroBaseline().passes(tiny_pairs)
    assert not forward.mirrored
    assert backward.mirrored
    for one, member in ((forward, tiny_pairs.input), (backward, tiny_pairs.baseline)):
        for shown in (one.blended.input, one.blended.baseline):
            assert torch.equal(shown.input_ids_nt, member.input_ids_nt)
            assert torch.equal(shown.attention_mask_nt, member.attention_mask_nt)
        assert one.blended.blank_pt is not None
        assert torch.equal(one.blended.blank_pt, member.gene_ids_nt >= 0)


def test_mean_exchanges_the_members_and_keeps_the_label(tiny_pairs: BlendedBatch) -> None:
    forward, backward = MeanBaseline().passes(tiny_pairs)
    assert forward.blended is tiny_pairs
    assert torch.equal(backward.blended.input.input_ids_nt, tiny_pairs.baseline.input_ids_nt)
    assert not forward.mirrored and not backward.mirrored


def test_names_and_promises() -> None:
    promises = {name: made.swaps for name, made in BASELINES.items()}
    assert promises == {"cell_state": True, "empty": False, "zero": False, "mean": True}
    assert all(made.name == name for name, made in BASELINES.items())


@pytest.mark.parametrize("name", BASELINES)
def test_every_strategy_has_a_leaf_of_its_name(name: str) -> None:
    leaf = yaml.safe_load((LEAVES / f"{name}.yaml").read_text())
    assert locate(leaf["_target_"], "baseline") is BASELINES[name]
    assert sorted(f.stem for f in LEAVES.glob("*.yaml")) == sorted(BASELINES)
