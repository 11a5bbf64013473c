"""Keep the training curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pandas as pd

from gradgene.store import atomic_path

__all__ = ["HistoryCallback"]


class HistoryCallback(lightning.Callback):
    """Writes `training.csv`, a row an epoch, complete after every epoch.

    Of several processes the main one writes it. A resumed training continues the file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Replace the row of this epoch or add it."""
        if not trainer.is_global_zero:
            return
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        row = pd.DataFrame([{"epoch": trainer.current_epoch + 1, **metrics}])
        if self.file.is_file():
            before = pd.read_csv(self.file)
            row = pd.concat([before[before["epoch"] <= trainer.current_epoch], row])
        with atomic_path(self.file) as temporary:
            row.to_csv(temporary, index=False)
