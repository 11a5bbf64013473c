"""How a block is run: as Python says it, or compiled."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.errors import ConfigError

__all__ = ["run_block", "run_compiled"]


def run_block(block: nn.Module, x_ntd: Tensor, mask_nt: Tensor, slot: int | None) -> Tensor:
    """The block's output (cells, tokens or 1, dim)."""
    out_ntd: Tensor = block(x_ntd, mask_nt, slot)
    return out_ntd


@cache
def _compiled() -> Any:
    # One block and not the whole model: all layers share it, and the model stays a plain module.
    return torch.compile(run_block, dynamic=True)


def run_compiled(block: nn.Module, x_ntd: Tensor, mask_nt: Tensor, slot: int | None) -> Tensor:
    """`run_block` through `torch.compile`; raises `ConfigError` where torch cannot compile."""
    try:
        out_ntd: Tensor = _compiled()(block, x_ntd, mask_nt, slot)
    except RuntimeError as error:
        # By name, because importing the class would import the compiler for everybody.
        if "BackendCompilerFailed" not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        raise ConfigError(
            "torch.compile failed on this machine",
            where="model.compile",
            found=" ".join(str(error).splitlines()[:2]),
            fix="install a C++ compiler, or set model.compile=false",
        ) from error
    return out_ntd
