"""Low-rank updates end up in the weights they belong to."""

from __future__ import annotations

import pytest
import torch

from gradgene.checkpoints.lora import merge_adapters
from gradgene.errors import CheckpointError


def test_by_hand() -> None:
    tensors = {
        "lin.base_layer.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "lin.base_layer.bias": torch.tensor([5.0, 6.0]),
        "lin.lora_A.default.weight": torch.tensor([[1.0, -1.0]]),
        "lin.lora_B.default.weight": torch.tensor([[2.0], [0.5]]),
        "norm.weight": torch.ones(2),
    }
    merged = merge_adapters(tensors, alpha=3.0)
    assert set(merged) == {"lin.weight", "lin.bias", "norm.weight"}
    assert merged["lin.weight"].tolist() == [[1 + 6, 2 - 6], [3 + 1.5, 4 - 1.5]]
    assert merged["lin.weight"].dtype == torch.float32
    assert merged["norm.weight"] is tensors["norm.weight"]
    assert tensors["lin.base_layer.weight"].tolist() == [[1, 2], [3, 4]], "the input is left alone"


def test_the_scale_is_alpha_over_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    base, up, down = (torch.randn(s, generator=generator) for s in ((4, 6), (4, 3), (3, 6)))
    tensors = {
        "a.base_layer.weight": base,
        "a.lora_A.default.weight": down,
        "a.lora_B.default.weight": up,
    }
    merged = merge_adapters(tensors, alpha=12.0)["a.weight"]
    torch.testing.assert_close(merged, base + 4 * up @ down)


def test_plain_tensors_are_passed_on() -> None:
    tensors = {"a.weight": torch.ones(2, 2)}
    assert merge_adapters(tensors, 1.0) == tensors


@pytest.mark.parametrize("lost", ["base_layer", "lora_A.default", "lora_B.default"])
def test_half_an_update_is_refused(lost: str) -> None:
    tensors = {
        f"a.{part}.weight": torch.ones(2, 2)
        for part in ("base_layer", "lora_A.default", "lora_B.default")
        if part != lost
    }
    with pytest.raises(CheckpointError, match="low-rank"):
        merge_adapters(tensors, 1.0)
