"""Several processes: how they begin and end, and how a model is cut up among them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

import lightning
import torch.distributed
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from gradgene.errors import ConfigError, require_extra
from gradgene.models.block import Block

__all__ = [
    "ddp",
    "deepspeed",
    "end_started",
    "fsdp",
    "gathered",
    "leave_orphaned",
    "leave_processes",
    "meet",
    "others_are_there",
    "whole",
]

Thing = TypeVar("Thing")

#: How long processes wait for the main one, which may judge a model or cut its genes meanwhile.
PATIENCE = timedelta(days=30)
#: Variable that says which process starts another, which may be gone before the other can ask.
STARTED_BY = "GRADGENE_STARTED_BY"
#: The process that started this one, while it was there.
PARENT = int(os.environ.pop(STARTED_BY, os.getppid()))


def ddp(timeout_hours: float = 168.0, spawn: bool = False) -> DDPStrategy:
    """The whole model in every process, which share the cells.

    Processes that wait for another give up after `timeout_hours`. They are started by the command
    line given again, or by `torchrun` or `srun`; with `spawn` by Python (`commands.run.spawning`),
    and to Lightning they are then those of `torchrun`.
    """
    return DDPStrategy(timeout=timedelta(hours=timeout_hours))


def fsdp(cpu_offload: bool = False, timeout_hours: float = 168.0) -> FSDPStrategy:
    """Parameters, gradients and optimiser state shared out among GPUs, block by block.

    Checkpoints are whole, as those of one process. `cpu_offload` keeps parameters in the memory of
    the host between uses. Processes that wait for another give up after `timeout_hours`.
    """
    return FSDPStrategy(
        auto_wrap_policy={Block},
        state_dict_type="full",
        cpu_offload=cpu_offload or None,
        timeout=timedelta(hours=timeout_hours),
    )


def deepspeed(timeout_hours: float = 168.0) -> DeepSpeedStrategy:
    """Gradients and optimiser state shared out among GPUs (ZeRO stage 2), the model whole in each.

    Checkpoints are whole, as those of one process, without the state of the optimiser, so that a
    training that was broken off cannot go on.

    Raises
    ------
    ConfigError
        If DeepSpeed is not installed.
    """
    require_extra("deepspeed", "deepspeed", where="trainer", otherwise="choose trainer=fsdp")
    return WholeDeepSpeed(stage=2, timeout=timedelta(hours=timeout_hours))


def whole(strategy: Any) -> Any:
    """The strategy, or where it shares out a model, one that leaves every process the whole of it.

    For prediction: a process that takes a batch in halves, because it does not fit in memory, asks
    the model more often than the others do, and those it shared the model with would wait for ever.
    """
    shares = isinstance(strategy, FSDPStrategy | DeepSpeedStrategy) or (
        isinstance(strategy, str) and strategy.startswith(("fsdp", "deepspeed"))
    )
    return ddp() if shares else strategy


class WholeDeepSpeed(DeepSpeedStrategy):
    """DeepSpeed whose checkpoints are files that can be read without it, and not its own folders.

    In stage 2 each process has all weights.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Write the weights, from the main process; each has only its share of the optimiser's."""
        whole = {k: v for k, v in checkpoint.items() if k != "optimizer_states"}
        DDPStrategy.save_checkpoint(self, whole, filepath, storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Refuse with `ConfigError`: there is no state of the optimiser to go on from."""
        raise ConfigError(
            "a training with DeepSpeed cannot be resumed",
            where="trainer",
            found=str(checkpoint_path),
            fix="remove this file to begin anew, or choose trainer=fsdp",
        )


def others_are_there() -> bool:
    """Whether somebody else has started the processes, who therefore wait for this one.

    `torchrun`, `srun` or another launcher that Lightning knows; or Lightning itself, if this is not
    the main process.
    """
    outside = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    return LightningEnvironment().creates_processes_externally or any(e.detect() for e in outside)


def meet(trainer: lightning.Trainer) -> torch.distributed.ProcessGroup:
    """Start the other processes of a trainer, where nobody else has, and wait for all of them.

    Trainers made later find the group. What comes back is a second group to wait in: on the CPU,
    so that no GPU is kept busy by waiting and one that ends is noticed by the others at once.
    """
    strategy = trainer.strategy
    if strategy.launcher is None:
        strategy.setup_environment()
    else:
        os.environ[STARTED_BY] = str(os.getpid())
        try:
            strategy.launcher.launch(strategy.setup_environment, trainer=trainer)
        finally:
            del os.environ[STARTED_BY]
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    assert group is not None
    return group


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
    """End this process, which is not the main one, at once if the one that started it is gone.

    A main process that was killed cannot end the others, and they would go on for hours, beside
    those of the command given again, or wait for it for days.
    """
    if os.getppid() != PARENT:
        os._exit(1)


def end_started(launchers: Iterable[Any]) -> None:
    """Kill the processes that Lightning started, after a failure here: they wait in vain."""
    for launcher in launchers:
        if isinstance(launcher, _SubprocessScriptLauncher):
            with contextlib.suppress(ProcessLookupError):
                launcher.kill(signal.SIGKILL)
