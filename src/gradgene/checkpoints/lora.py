"""Low-rank updates added to the weights they belong to, so that a plain model is left."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from gradgene.errors import CheckpointError

__all__ = ["merge_adapters"]

#: How `peft` names the weight it wraps and the two factors of its update.
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def merge_adapters(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W + alpha / rank · B A for every weight W that has an update, under its plain name.

    Tensors without an update are passed on. Raises `CheckpointError` if half of an update is
    missing.
    """
    merged = {k.replace(BASE, "."): v for k, v in tensors.items() if ".lora_" not in k}
    layers = {k.partition(".lora_")[0] for k in tensors if ".lora_" in k}
    for layer in sorted(layers):
        weight = f"{layer}.weight"
        lost = [k for k in (layer + DOWN, layer + UP) if k not in tensors]
        if lost or weight not in merged:
            raise CheckpointError(f"lacks a part of a low-rank update: {', '.join(lost) or weight}")
        down, up = tensors[layer + DOWN].double(), tensors[layer + UP].double()
        update = alpha / down.shape[0] * (up @ down)
        merged[weight] = (merged[weight].double() + update).to(merged[weight].dtype)
    return merged
