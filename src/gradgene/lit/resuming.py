"""Keep a training that can be broken off anywhere, and the record of its steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from gradgene.errors import require_least
from gradgene.store import atomic_path, read_json_lines

__all__ = ["LastCheckpoint", "StepHistory"]


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` every few optimiser steps, after each validation and at the end.

    The file is whole at every moment: a new one takes the place of the old when it is written.

    Parameters
    ----------
    dirpath
        Folder of the file.
    every_n_steps
        A training that is killed loses at most so many steps.

    Raises
    ------
    ConfigError
        If `every_n_steps` is below 1.
    """

    def __init__(self, dirpath: Path, every_n_steps: int = 500) -> None:
        require_least("callbacks.last", every_n_steps=(every_n_steps, 1))
        self.file, self.every_n_steps = dirpath / "last.ckpt", every_n_steps
        self.saved_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """What a training begins with is saved already."""
        self.saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save unless a validation follows, which belongs to this step and saves itself."""
        every = trainer.val_check_batch
        validates = every is not None and (batch_idx + 1) % every == 0
        if trainer.global_step % self.every_n_steps == 0 and not validates:
            self._save(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save with the result of the validation, where the gradients are none."""
        done = trainer.fit_loop.total_batch_idx + 1
        whole = done % trainer.accumulate_grad_batches == 0 or done == trainer.num_training_batches
        if whole and not trainer.sanity_checking:
            self._save(trainer, again=True)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Save the last step."""
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer, again: bool = False) -> None:
        if trainer.global_step == self.saved_step and not again:
            return
        self.saved_step = trainer.global_step
        # All ranks take part in writing some checkpoints; the main one puts it in place.
        temporary = self.file.with_name(f".{self.file.name}.new")
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.file)


class StepHistory(lightning.Callback):
    """Writes `training.jsonl`: a line every few optimiser steps and a line a validation.

    A line holds `batch` and `step`, the numbers of batches and optimiser steps so far, and what was
    measured: `train/loss` of the main process's batch, `learning_rate`; or the metrics of a
    validation. A resumed training continues the file where its checkpoint stands.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.step = file, 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Take out what was written after the checkpoint: it is going to be done again."""
        self.step = trainer.global_step
        if not trainer.is_global_zero:
            return
        done = trainer.fit_loop.total_batch_idx + 1
        kept = [line for line in read_json_lines(self.file) if line["batch"] <= done]
        with atomic_path(self.file) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss where the trainer logs it."""
        stepped, self.step = trainer.global_step != self.step, trainer.global_step
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if stepped and self.step % every == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            loss = float(trainer.callback_metrics["train/loss"])
            self._write(trainer, {"train/loss": loss, "learning_rate": rate})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note the metrics of a validation."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k[:4] == "val/"}
        if not trainer.sanity_checking:
            self._write(trainer, metrics)

    def _write(self, trainer: lightning.Trainer, measured: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        place = {"batch": trainer.fit_loop.total_batch_idx + 1, "step": trainer.global_step}
        with self.file.open("a") as stream:
            stream.write(json.dumps({**place, **measured}) + "\n")
