"""Several processes: how a model is cut up among them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any, TypeVar

import lightning
import torch.distributed
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.optim import Optimizer

from gradgene.lit.batches import rank_and_world
from gradgene.models.block import Block

__all__ = [
    "clip_gradients",
    "end_started",
    "fsdp",
    "gathered",
    "leave_orphaned",
    "leave_processes",
]

Thing = TypeVar("Thing")

#: The process that started this one, while it was there.
PARENT = os.getppid()


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


def leave_orphaned() -> None:
    """End this process at once if it is not the main one and the one that started it is gone.

    A main process that was killed cannot end the others, and they would go on for hours, beside
    those of the command given again.
    """
    if rank_and_world()[0] > 0 and os.getppid() != PARENT:
        os._exit(1)


def end_started(launchers: Iterable[Any]) -> None:
    """Kill the processes that Lightning started, after a failure here: they wait in vain."""
    for launcher in launchers:
        if isinstance(launcher, _SubprocessScriptLauncher):
            with contextlib.suppress(ProcessLookupError):
                launcher.kill(signal.SIGKILL)
