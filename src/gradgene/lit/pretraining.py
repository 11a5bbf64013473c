"""The thin Lightning module of pretraining: name masked genes' bins and masked phenotypes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gradgene.cells import CellSchema
from gradgene.errors import ConfigError
from gradgene.lit.learning import LearningModule, warming_up
from gradgene.lit.masked_metrics import MaskedMetrics
from gradgene.lit.step_seed import seed_step
from gradgene.lit.streaming import SeededTokens
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens.masking import IGNORED, MaskedTokens, mask_tokens

__all__ = ["Pretraining", "PretrainingModule"]

#: What is shown while training.
ON_BAR = ("val/loss", "val/bins/accuracy")


@dataclass(frozen=True)
class Pretraining:
    """AdamW with `betas`, whose rate rises to `learning_rate` and falls along a cosine to 0.

    Parameters
    ----------
    learning_rate, weight_decay, betas
        Of AdamW; biases and norms decay as well.
    warmup_share
        Share of all optimiser steps over which the rate rises.

    Raises
    ------
    ConfigError
        For numbers that make no training.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_share: float = 0.05

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.weight_decay < 0 or not 0 <= self.warmup_share <= 1:
            raise ConfigError(
                "cannot train so",
                where="pretraining",
                expected="learning_rate > 0, weight_decay >= 0, warmup_share in [0, 1]",
                found=str(asdict(self)),
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                "cannot average so",
                where="pretraining.betas",
                expected="in [0, 1)",
                found=str(self.betas),
            )


class PretrainingModule(LearningModule):
    """Masks each batch by its seeds and learns what was masked.

    Hyperparameters are plain types, so checkpoints load with `weights_only=True`.

    Parameters
    ----------
    model
        The transformer.
    schema
        How its cells were read; kept in the checkpoint for whoever loads it.
    pretraining, objective
        Optimiser settings; masking and loss.
    n_batches
        Batches of the whole training, which is one epoch to Lightning.
    trained_on
        Donors (or cells, where there are no donors) it learns from or is selected on.
    seed
        Of dropout: what a batch draws depends on this, its number and the rank alone.
    """

    def __init__(
        self,
        model: PhenotypeGeneTransformer,
        schema: CellSchema,
        pretraining: Pretraining,
        objective: MaskedTokens,
        n_batches: int,
        trained_on: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.pretraining, self.objective = model, pretraining, objective
        self.n_batches, self.seed = n_batches, seed
        self.metrics = MaskedMetrics(model.vocabulary)
        self.save_hyperparameters(
            {
                "vocabulary": model.vocabulary.to_dict(),
                "size": model.size,
                "schema": {**asdict(schema), "phenotypes": list(schema.phenotypes)},
                "trained_on": list(trained_on),
                **asdict(pretraining),
                "betas": list(pretraining.betas),
                **asdict(objective),
            },
            logger=False,
        )

    def masked_logits(self, batch: SeededTokens) -> tuple[Tensor, Tensor]:
        """Logits over the input ids (masked tokens, input ids), and the ids asked for."""
        tokens, labels_nt = mask_tokens(
            batch.tokens, self.model.vocabulary, self.objective, batch.seeds_n
        )
        hidden_ntd = self.model.encode(self.model.embed(tokens), tokens.attention_mask_nt)
        asked_nt = labels_nt != IGNORED
        return self.model.head(hidden_ntd[asked_nt]), labels_nt[asked_nt]

    def on_train_batch_start(self, batch: SeededTokens, batch_idx: int) -> None:
        """Make what dropout draws depend on the place in the training alone."""
        seed_step(self.seed, batch_idx, self.global_rank)

    def training_step(self, batch: SeededTokens, batch_idx: int) -> Tensor:
        """Mean loss of the masked tokens of a batch; 0 for a batch without any."""
        total, weight = self.objective.loss(*self.masked_logits(batch), self.model.vocabulary)
        loss = total / torch.where(weight > 0, weight, 1.0)
        self.log("train/loss", loss, on_step=True, on_epoch=False, batch_size=max(len(batch), 1))
        return loss

    def validation_step(self, batch: SeededTokens, batch_idx: int) -> None:
        """Count hits and losses."""
        logits_mv, labels_m = self.masked_logits(batch)
        loss = self.objective.loss(logits_mv, labels_m, self.model.vocabulary)
        self.metrics.update(logits_mv, labels_m, *loss)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over all validation cells of all processes."""
        for name, value in self.metrics.compute().items():
            key = f"val/{name}"
            self.log(key, value, prog_bar=key in ON_BAR, sync_dist=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW over all parameters and its schedule by optimiser step."""
        settings = self.pretraining
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=settings.betas,
        )
        total = math.ceil(self.n_batches / self.trainer.accumulate_grad_batches)
        return warming_up(optimizer, settings.warmup_share, total)
