"""One training job, run by Lightning as `gradgene train` does or by `transformers.Trainer`."""

from __future__ import annotations

import copy
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gradgene.errors import require_extra
from gradgene.lit import PhenotypeModule
from gradgene.tokens import TokenBatch

__all__ = ["ARMS", "ArmRun", "TrainingJob", "require_transformers", "run_arm"]


@dataclass(frozen=True)
class TrainingJob:
    """What both trainers are given.

    Attributes
    ----------
    module
        The real Lightning module; copied for each run, so that all start from the same weights.
    batches
        Token batches, one a step.
    warm_up
        Steps before the clock starts.
    trainer
        Makes the `lightning.Trainer` of the configuration.
    device, precision, clip
        "cpu" or "cuda", Lightning's word for the precision, and the norm that gradients are
        clipped to.
    """

    module: PhenotypeModule
    batches: Sequence[TokenBatch]
    warm_up: int
    trainer: Callable[..., lightning.Trainer]
    device: str
    precision: str
    clip: float | None

    @property
    def n_tokens(self) -> int:
        """Real tokens of the timed steps."""
        return sum(int(b.n_tokens_n.sum()) for b in self.batches[self.warm_up :])

    @property
    def n_cells(self) -> int:
        """Cells of the timed steps."""
        return sum(len(b) for b in self.batches[self.warm_up :])


@dataclass(frozen=True)
class ArmRun:
    """One training by one of `ARMS`.

    Attributes
    ----------
    arm
        Which.
    seconds_k, processor_k
        Seconds of each timed step, and those of all processor cores: other work on the machine
        lengthens the former more than the latter.
    setup_seconds
        Until the first step is done.
    losses_k
        Loss of every step.
    """

    arm: str
    seconds_k: np.ndarray
    processor_k: np.ndarray
    setup_seconds: float
    losses_k: np.ndarray


@dataclass
class StepClock:
    """Notes when each step ends and its loss; the loss is read only after the last step."""

    job: TrainingJob
    started: float = field(default_factory=time.perf_counter)
    ends: list[tuple[float, float]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    def end_step(self) -> None:
        """Call when the optimiser has stepped."""
        # A GPU is waited for only where the timed steps begin and end: it works ahead otherwise.
        at_bound = len(self.ends) + 1 in (self.job.warm_up, len(self.job.batches))
        if self.job.device == "cuda" and at_bound:
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), time.process_time()))

    def read(self, arm: str) -> ArmRun:
        """What was seen, without the time of the warm-up steps."""
        seconds_k, processor_k = np.diff(self.ends, axis=0)[self.job.warm_up - 1 :].T
        return ArmRun(
            arm=arm,
            seconds_k=seconds_k,
            processor_k=processor_k,
            setup_seconds=self.ends[0][0] - self.started,
            losses_k=torch.stack(self.losses).float().cpu().numpy(),
        )


def run_arm(job: TrainingJob, arm: str) -> ArmRun:
    """Train a copy of the job's model by one of `ARMS`."""
    clock = StepClock(job)
    with _quietly():
        ARMS[arm](job, copy.deepcopy(job.module), clock)
    return clock.read(arm)


class Watch(lightning.Callback):
    """Lets the clock see Lightning's steps."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step is done."""
        self.clock.losses.append(outputs["loss"].detach())
        self.clock.end_step()


def with_lightning(job: TrainingJob, module: PhenotypeModule, clock: StepClock) -> None:
    """Fit the module with the configured trainer, without logger, validation and checkpoints."""
    trainer = job.trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        max_epochs=1,
        callbacks=[Watch(clock)],
    )
    trainer.fit(module, DataLoader(job.batches, batch_size=None))  # type: ignore[arg-type]


class LossModel(nn.Module):
    """The module's loss as `transformers.Trainer` expects it: tensors in, `{"loss": …}` out."""

    accepts_loss_kwargs = False  # it takes the mean over cells by itself

    def __init__(self, module: PhenotypeModule, clock: StepClock) -> None:
        super().__init__()
        self.module, self.clock = module, clock

    def forward(self, **tensors: Tensor) -> dict[str, Tensor]:
        """Loss of a batch given as its fields."""
        batch = TokenBatch(**tensors, pad_id=self.module.model.vocabulary.pad_id)
        # Seeds the step, as Lightning has it do: without, dropout would differ.
        self.module.on_train_batch_start(batch, len(self.clock.losses))
        loss = self.module.loss(*self.module.logits(batch))
        self.clock.losses.append(loss.detach())
        return {"loss": loss}


def with_transformers(job: TrainingJob, module: PhenotypeModule, clock: StepClock) -> None:
    """Train with `transformers.Trainer`: same batches in order, optimiser, rate and clipping.

    Raises `ConfigError` if it is not installed.
    """
    require_transformers()
    import transformers

    batches = [batch.tensors() for batch in job.batches]

    class WatchSteps(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *given: Any, **named: Any) -> None:
            clock.end_step()

    class InOrder(transformers.Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(DataLoader(batches, batch_size=None))  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=len(batches),
            lr_scheduler_type="constant",
            max_grad_norm=job.clip or 0.0,
            bf16=job.precision == "bf16-mixed",
            use_cpu=job.device == "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = InOrder(
            model=LossModel(module, clock),
            args=arguments,
            train_dataset=batches,
            optimizers=(module.configure_optimizers(), None),
            callbacks=[WatchSteps()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def require_transformers() -> None:
    """Raise `ConfigError` saying what to install where transformers or accelerate is absent."""
    require_extra("benchmark", "transformers", "accelerate", where="benchmark training")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the trainers say about loggers, workers and devices out of the way."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in ("does not have many workers", "treespec, LeafSpec", "no `val_dataloader`"):
            warnings.filterwarnings("ignore", message=f".*{message}")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


#: Name of a trainer -> how it trains a module on a job under a clock.
ARMS: dict[str, Callable[[TrainingJob, PhenotypeModule, StepClock], None]] = {
    "lightning": with_lightning,
    "transformers": with_transformers,
}
