"""Progress of long work: a bar where somebody watches, a line a minute where nobody does."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

__all__ = ["Minutes", "ProgressBar"]


class Minutes:
    """Tells when a minute has passed since the start, or since it last told.

    What goes to a file is read by somebody who wonders whether the work still goes on: a line a
    minute says so, and work that takes less leaves none.
    """

    def __init__(self, every_s: float = 60.0) -> None:
        self.every_s, self.told = every_s, time.monotonic()

    def passed(self) -> bool:
        """Whether it is time for a line."""
        now = time.monotonic()
        if now - self.told < self.every_s:
            return False
        self.told = now
        return True


class ProgressBar(RichProgressBar):
    """Lightning's bar in a terminal; elsewhere a line a minute from the main process.

    Parameters
    ----------
    leave
        Whether the bar of every epoch stays on the screen.
    every_s
        Seconds between lines where the output is no terminal.
    """

    def __init__(self, leave: bool = False, every_s: float = 60.0) -> None:
        super().__init__(leave=leave)
        self.watched, self.minutes = Console().is_terminal, Minutes(every_s)

    @property
    def is_enabled(self) -> bool:
        """Whether there is a bar: in the main process, in a terminal."""
        return self.watched and super().is_enabled

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._tell(
            f"epoch {trainer.current_epoch + 1}, batch", batch_idx, trainer.num_training_batches
        )

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move on."""
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        self._tell("batch", batch_idx, trainer.num_predict_batches[dataloader_idx])

    def _tell(self, what: str, index: int, total: float) -> None:
        # Lightning disables the bars of all processes but the main one.
        if self._enabled and not self.watched and self.minutes.passed():
            metrics = self.get_metrics(self.trainer, self.trainer.lightning_module)
            shown = [f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, float)]
            of = f" of {total:.0f}" if total != float("inf") else ""
            Console(soft_wrap=True).print(", ".join([f"{what} {index + 1}{of}", *shown]))
