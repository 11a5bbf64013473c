"""The batches of a training, halved where they do not fit in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from omegaconf import OmegaConf

from gradgene.commands.run.folder import RunFolder
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import ConfigError
from gradgene.lit.batches import token_lengths
from gradgene.store import write_json

__all__ = ["TrainingBatches", "least_size"]


Unit = Literal["batch_size", "batch_tokens"]


@dataclass(frozen=True)
class TrainingBatches:
    """How many cells or tokens a batch of a training has, and how many batches a step.

    Attributes
    ----------
    unit
        The key of the data that gives the size.
    size
        Cells or padded tokens a batch.
    accumulated
        Batches whose gradients make one step.
    """

    unit: Unit
    size: int
    accumulated: int

    @classmethod
    def of(cls, work: Workspace) -> TrainingBatches:
        """As configured."""
        data, accumulated = work.data, int(work.cfg.trainer.get("accumulate_grad_batches") or 1)
        unit: Unit = "batch_size" if data.batch_tokens is None else "batch_tokens"
        # Not those of the data, which an earlier training in this process may have halved.
        asked = OmegaConf.select(work.cfg, f"data.{unit}", default=getattr(data, unit))
        return cls(unit, asked, accumulated)

    @property
    def settings(self) -> str:
        """As words of a command line."""
        return f"data.{self.unit}={self.size} trainer.accumulate_grad_batches={self.accumulated}"

    @property
    def half(self) -> TrainingBatches:
        """Half the size and twice as many batches a step."""
        return TrainingBatches(self.unit, -(-self.size // 2), 2 * self.accumulated)

    def halved(self, work: RunFolder, least: int) -> TrainingBatches:
        """`half` of these, which is said; at `least` a batch is a single cell.

        Raises
        ------
        ConfigError
            If a batch is a single cell already, or there are several processes: only one of them
            may have too little memory, and all must have the same batches.
        """
        if self.size <= least:
            raise ConfigError(
                "a training batch of a single cell does not fit in memory",
                where=f"data.{self.unit}",
                found=str(self.size),
                fix="train on fewer genes of a cell (data.train_tokens=...), take a smaller model, "
                "or use a machine or a GPU (trainer=gpu) with more memory",
            )
        half = self.half
        if work.n_processes > 1:
            raise ConfigError(
                "a training batch does not fit in the memory of a process, and several cannot "
                "change their batches midway",
                where=f"data.{self.unit}",
                found=str(self.size),
                fix=f"add {half.settings}, in another folder",
            )
        work.console.print(
            f"[yellow]a training batch of data.{self.unit}={self.size} does not fit in memory: "
            f"going on with {half.settings}[/]"
        )
        return half

    def note(self, work: RunFolder, asked: TrainingBatches) -> None:
        """Write with what it was trained, in `data_report.json` too where nobody asked for it."""
        facts: dict[str, float] = {
            f"train/{self.unit}": self.size,
            "train/accumulate_grad_batches": self.accumulated,
        }
        work.add_metrics(facts)
        if asked == self:
            return
        work.noted[self.unit] = self.size
        work.peculiar = True  # another machine may have room for the batches asked for
        file = work.folder / "data_report.json"
        report: dict[str, Any] = json.loads(file.read_text())
        report["notes"].append(
            f"Training batches of data.{self.unit}={asked.size} did not fit in memory: trained "
            f"with {self.settings}, which makes steps of as many cells."
        )
        write_json(report, file)


def least_size(work: Workspace, unit: Unit) -> int:
    """The size at which every batch of a study's training is a single cell."""
    if unit == "batch_size":
        return 1
    data = work.data
    parts = (("train", data.train_tokens), ("validation", None))
    return max(
        int(token_lengths(data.part(name), data.tokenizer, genes).max()) for name, genes in parts
    )
