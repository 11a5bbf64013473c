"""Several processes: how a model is cut up among them."""

from __future__ import annotations

from typing import Any, TypeVar

import lightning
import torch.distributed
from lightning.pytorch.strategies import FSDPStrategy
from torch.optim import Optimizer

from gradgene.models.block import Block

__all__ = ["clip_gradients", "fsdp", "gathered", "leave_processes"]

Thing = TypeVar("Thing")


def fsdp(cpu_offload: bool = False) -> FSDPStrategy:
    """Parameters, gradients and optimiser state shared out among GPUs, block by block.

    Checkpoints are whole, as those of one process. `cpu_offload` keeps parameters in the memory of
    the host between uses.
    """
    return FSDPStrategy(
        auto_wrap_policy={Block}, state_dict_type="full", cpu_offload=cpu_offload or None
    )


def clip_gradients(
    module: lightning.LightningModule, optimizer: Optimizer, norm: Any, algorithm: Any
) -> None:
    """Clip as Lightning does; the norm of gradients that are shared out is FSDP's to take."""
    if isinstance(module.trainer.strategy, FSDPStrategy) and algorithm in (None, "norm"):
        if norm:
            module.trainer.strategy.model.clip_grad_norm_(norm)  # type: ignore[union-attr,operator]
    else:
        module.clip_gradients(optimizer, gradient_clip_val=norm, gradient_clip_algorithm=algorithm)


def gathered(mine: Thing) -> list[Thing]:
    """What every process gives, by rank; all of them must call this."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    everyone: list[Thing] = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def leave_processes() -> None:
    """Leave the group that Lightning founded; nothing where there is one process.

    Lightning does not, and a process that ends while threads of the group still run may be aborted.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
