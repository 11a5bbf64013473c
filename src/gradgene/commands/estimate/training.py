"""How long a training will take and how much memory, measured on a few of its own steps."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch

from gradgene.commands.run.folder import RunFolder, interruptible
from gradgene.commands.run.memory import MB, peak_mb
from gradgene.commands.sweep.planned import Estimate

__all__ = ["measure_training"]

#: What the trial may take, and how many steps it needs at least: the first is a warm-up.
TRIAL_S, LEAST_STEPS = 2.0, 3
#: Validation batches of the trial, at most.
VALIDATED = 2


class _Stopwatch(lightning.Callback):
    """Times steps from end to end, loading included, and stops the trial in time."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.validation_s = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *given: Any) -> None:
        _wait(trainer)
        self.ends.append(time.perf_counter())
        long_enough = self.ends[-1] - self.ends[0] > TRIAL_S
        trainer.should_stop = len(self.ends) >= LEAST_STEPS and long_enough

    def on_validation_start(self, trainer: lightning.Trainer, *given: Any) -> None:
        self.validation_s = -time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, *given: Any) -> None:
        _wait(trainer)
        self.validation_s += time.perf_counter()

    @property
    def step_s(self) -> float:
        """Seconds of a step; of a training of one step, of none."""
        n_steps = len(self.ends) - 1
        return (self.ends[-1] - self.ends[0]) / n_steps if n_steps > 0 else 0.0


def measure_training(
    work: RunFolder,
    module: lightning.LightningModule,
    loaders: tuple[Any, Any],
    n_steps: int,
    n_validations: int,
) -> Estimate:
    """Fit a copy of the model for some seconds, in this process alone, and forget it.

    Parameters
    ----------
    module
        What would be fitted; the trial changes its weights.
    loaders
        Of training and of validation.
    n_steps, n_validations
        Steps and passes over the validation cells of the whole training, of one process.
    """
    training, validation = loaders
    watch, n_validated = _Stopwatch(), min(VALIDATED, len(validation))
    trainer = work.trainer(
        devices=1,
        strategy="auto",
        logger=False,
        callbacks=[watch],
        max_epochs=1,
        limit_val_batches=n_validated,
        val_check_interval=1.0,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with interruptible():
        trainer.fit(module, training, validation)
    of_pass = watch.validation_s / max(n_validated, 1) * len(validation)
    on_gpu = torch.cuda.is_available() and work.device == "cuda"
    held_mb = torch.cuda.max_memory_allocated() / MB if on_gpu else peak_mb()
    return Estimate(n_steps * watch.step_s + n_validations * of_pass, held_mb)


def _wait(trainer: lightning.Trainer) -> None:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
