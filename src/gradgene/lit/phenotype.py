"""The thin Lightning module: learn the masked target, and explain it in `predict_step`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lightning
import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from gradgene.attribution import Attribution, AttributionMethod, Target
from gradgene.cells import CellSchema
from gradgene.errors import AttributionError, ConfigError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BaselineStrategy, BlendedBatch
from gradgene.tokens import TokenBatch, mask_category

__all__ = ["FineTuning", "MaskedTarget", "PhenotypeModule"]


@dataclass(frozen=True)
class FineTuning:
    """AdamW at a constant `learning_rate` with `weight_decay`, for `max_epochs` epochs.

    Raises `ConfigError` for a rate or number of epochs that is not positive.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    max_epochs: int = 8

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_epochs < 1 or self.weight_decay < 0:
            raise ConfigError(
                "cannot train so",
                where="finetune",
                expected="learning_rate > 0, max_epochs >= 1, weight_decay >= 0",
                found=str(asdict(self)),
            )


@dataclass(frozen=True)
class MaskedTarget:
    """Cross-entropy over the labels of the target category at its masked slot.

    `label_smoothing` is the share of probability spread over all labels of the category.
    """

    label_smoothing: float = 0.0

    def loss(self, logits_nc: Tensor, labels_n: Tensor) -> Tensor:
        """Mean loss of `logits_nc` (cells, labels) against label indices."""
        return torch.nn.functional.cross_entropy(
            logits_nc, labels_n, label_smoothing=self.label_smoothing
        )


@dataclass(frozen=True)
class Explanation:
    """What `predict_step` does with a batch of pairs."""

    method: AttributionMethod
    target: Target
    baseline: BaselineStrategy


class PhenotypeModule(lightning.LightningModule):
    """Fine-tunes a transformer to name the masked target category, and attributes pairs.

    Hyperparameters are plain types, so checkpoints load with `weights_only=True`.

    Parameters
    ----------
    model
        The transformer; its vocabulary knows the target category.
    schema
        How its cells were read; kept in the checkpoint for whoever loads it.
    target
        Category to predict.
    finetune, objective
        Optimiser settings and loss.
    trained_on
        Donors (or cells, where there are no donors) it learns from or is selected on; kept in the
        checkpoint, so that nobody judges it on them.
    """

    def __init__(
        self,
        model: PhenotypeGeneTransformer,
        schema: CellSchema,
        target: str,
        finetune: FineTuning,
        objective: MaskedTarget,
        trained_on: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model, self.target = model, target
        self.finetune, self.objective = finetune, objective
        self.explanation: Explanation | None = None
        ids = model.vocabulary.label_ids(target)
        self.first_label = ids.start
        n = len(ids)
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n, average="micro"),
                "balanced_accuracy": MulticlassAccuracy(n, average="macro"),
                "macro_f1": MulticlassF1Score(n, average="macro"),
            },
            prefix="val/",
        )
        schema_dict = {**asdict(schema), "phenotypes": list(schema.phenotypes)}
        self.save_hyperparameters(
            {
                "vocabulary": model.vocabulary.to_dict(),
                "size": model.size,
                "schema": schema_dict,
                "target": target,
                "trained_on": list(trained_on),
                **asdict(finetune),
                **asdict(objective),
            },
            logger=False,
        )

    def logits(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        """Logits over the target's labels (cells, labels) and the true label indices (cells,)."""
        masked, ids_n = mask_category(tokens, self.model.vocabulary, self.target)
        slot = self.model.vocabulary.slot(self.target)
        n = len(self.model.vocabulary.label_ids(self.target))
        logits_nv = self.model.read(self.model.embed(masked), masked.attention_mask_nt, slot)
        return logits_nv[:, self.first_label : self.first_label + n], ids_n - self.first_label

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self.objective.loss(*self.logits(batch))
        self.log("train/loss", loss, on_epoch=True, on_step=False, batch_size=len(batch))
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Loss and metrics on whole cells."""
        logits_nc, labels_n = self.logits(batch)
        self.metrics.update(logits_nc, labels_n)
        loss = self.objective.loss(logits_nc, labels_n)
        self.log("val/loss", loss, batch_size=len(batch), prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        for name, value in self.metrics.compute().items():
            self.log(name, value, prog_bar=name == "val/balanced_accuracy")
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW over all parameters."""
        settings = self.finetune
        return torch.optim.AdamW(
            self.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def explain_with(
        self, method: AttributionMethod, target: Target, baseline: BaselineStrategy
    ) -> None:
        """Choose what `predict_step` computes."""
        self.explanation = Explanation(method, target, baseline)

    def predict_step(self, batch: BlendedBatch, batch_idx: int) -> Attribution:
        """Attribute a batch of pairs in both directions.

        Raises
        ------
        AttributionError
            If `explain_with` was not called or tensors were made in inference mode.
        """
        if self.explanation is None:
            raise AttributionError("call explain_with(...) before trainer.predict")
        if batch.gene_ids_pt.is_inference():
            raise AttributionError(
                "attribution needs gradients, which inference mode forbids",
                where="trainer.inference_mode",
                fix="use Trainer(inference_mode=False)",
            )
        how = self.explanation
        return how.method.attribute(self.model, batch, how.target, how.baseline)
