"""The thin Lightning module: learn the masked target, and explain it in `predict_step`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
)

from gradgene.attribution import Attribution, AttributionMethod, Target
from gradgene.cells import CellSchema
from gradgene.errors import AttributionError
from gradgene.halving import limit_of
from gradgene.lit.explaining import Explained, explain_fitting, explain_possible
from gradgene.lit.finetuning import FineTuning, freeze, prepare
from gradgene.lit.learning import LearningModule, warming_up
from gradgene.lit.objective import MaskedTarget
from gradgene.lit.step_seed import seed_step
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BaselineStrategy, BlendedBatch
from gradgene.tokens import TokenBatch, mask_category

__all__ = ["PhenotypeModule"]


@dataclass(frozen=True)
class Explanation:
    """What `predict_step` does with a batch of pairs, and with pairs without finite scores."""

    method: AttributionMethod
    target: Target
    baseline: BaselineStrategy
    on_error: Literal["raise", "stop", "skip"] = "raise"

    @property
    def skips(self) -> bool:
        """Whether such pairs are left out."""
        return self.on_error == "skip"


def _as_it_is(batch: Any) -> Any:
    return batch


class PhenotypeModule(LearningModule):
    """Fine-tunes a transformer to name the masked target category, and attributes pairs.

    Fitting lets the weights of the arm learn and no others, and keeps dropout out of what stands
    before them. Hyperparameters are plain types, so checkpoints load with `weights_only=True`.

    Parameters
    ----------
    model
        The transformer; its vocabulary knows the target category. Fitting with `arm="lora"` adds
        layers to it.
    schema
        How its cells were read; kept in the checkpoint for whoever loads it.
    target
        Category to predict.
    finetune, objective
        Arm, optimiser settings and loss.
    trained_on
        Donors (or cells, where there are no donors) it learns from or is selected on; kept in the
        checkpoint, so that nobody judges it on them.
    n_cells_c
        (labels,) numbers of training cells, for balanced class weights.
    seed
        Of dropout: what a batch draws depends on this, its epoch, its number and the rank alone.
    """

    weights_c: Tensor | None

    def __init__(
        self,
        model: PhenotypeGeneTransformer,
        schema: CellSchema,
        target: str,
        finetune: FineTuning,
        objective: MaskedTarget,
        trained_on: Sequence[str] = (),
        n_cells_c: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.target = model, target
        self.finetune, self.objective, self.seed = finetune, objective, seed
        self.explanation: Explanation | None = None
        ids = torch.tensor(model.vocabulary.label_ids(target))
        self.register_buffer("label_ids_c", ids, persistent=False)
        self.register_buffer("weights_c", objective.weights(n_cells_c), persistent=False)
        n = len(ids)
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(n, average="micro"),
                "balanced_accuracy": MulticlassAccuracy(n, average="macro"),
                "macro_f1": MulticlassF1Score(n, average="macro"),
                "ece": MulticlassCalibrationError(n, n_bins=15),
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
                **finetune.to_dict(),
                **asdict(objective),
            },
            logger=False,
        )

    def logits(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        """Logits over the target's labels (cells, labels) and the true label indices (cells,)."""
        masked, ids_n = mask_category(tokens, self.model.vocabulary, self.target)
        embeddings_ntd = self.model.embed(masked)
        logits_nv = self.model.read(embeddings_ntd, masked.attention_mask_nt, self.target)
        ids_c = self.get_buffer("label_ids_c")
        return logits_nv[:, ids_c], (ids_n[:, None] == ids_c).int().argmax(dim=1)

    def loss(self, logits_nc: Tensor, labels_n: Tensor) -> Tensor:
        """What training minimises, of logits (cells, labels) and label indices."""
        return self.objective.loss(logits_nc, labels_n, self.weights_c)

    def setup(self, stage: str) -> None:
        """Before fitting: the weights of the arm, and everything in training mode."""
        if stage == "fit":
            prepare(self.model, self.finetune)
            self.train()  # a loaded model comes in evaluation mode
        if stage == "predict":
            # Pairs are whole numbers: no precision converts them, and Lightning's half precision
            # fails trying, because it sets the fields of what is frozen.
            self.trainer.precision_plugin.convert_input = _as_it_is  # type: ignore[method-assign,assignment]

    def on_train_epoch_start(self) -> None:
        """Keep what does not learn a fixed function."""
        freeze(self.model)

    def on_train_batch_start(self, batch: TokenBatch, batch_idx: int) -> None:
        """Make what dropout draws depend on the place in the training alone."""
        seed_step(self.seed, self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = self.loss(*self.logits(batch))
        self.log(
            "train/loss", loss, on_epoch=True, on_step=False, batch_size=len(batch), sync_dist=True
        )
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Loss and metrics on whole cells."""
        logits_nc, labels_n = self.logits(batch)
        self.metrics.update(logits_nc.float().softmax(dim=1), labels_n)
        loss = self.loss(logits_nc, labels_n)
        self.log("val/loss", loss, batch_size=len(batch), prog_bar=True, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch."""
        for name, value in self.metrics.compute().items():
            self.log(name, value, prog_bar=name == "val/balanced_accuracy", sync_dist=True)
        self.metrics.reset()

    def configure_optimizers(self) -> Any:
        """AdamW over the weights that learn, at a constant rate or with a schedule by step."""
        settings = self.finetune
        optimizer = torch.optim.AdamW(
            [weight for weight in self.parameters() if weight.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        if settings.schedule == "constant":
            return optimizer
        total = int(self.trainer.estimated_stepping_batches)
        return warming_up(optimizer, settings.warmup_share, total)

    def explain_with(
        self,
        method: AttributionMethod,
        target: Target,
        baseline: BaselineStrategy,
        on_error: Literal["raise", "stop", "skip"] = "raise",
    ) -> None:
        """Choose what `predict_step` computes, and what it does with pairs without finite scores.

        "raise" raises there and then, for the batch; "stop" and "skip" find out which pairs they
        are and give `Explained` back, for `AttributionCollector` to tell them by name.
        """
        self.explanation = Explanation(method, target, baseline, on_error)
        # Of several processes that go on where they were broken off, one may have nothing left.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def predict_step(self, batch: BlendedBatch, batch_idx: int) -> Attribution | Explained:
        """Attribute a batch of pairs in both directions, in inference mode as well.

        A batch that does not fit in memory is explained in halves, and so are those after it where
        they are as large.

        Scores are those of the weights as they are, in their own precision: autocast
        (`precision="bf16-mixed"`) changes nothing, while a plugin or wrapper that converts weights
        (`bf16-true`, quantisation) has them explained as converted, rounding and all.

        Raises
        ------
        AttributionError
            If `explain_with` was not called, or under "raise" for scores that are not finite.
        TooLargeError
            Under "raise" for a pair that does not fit in memory alone.
        """
        if self.explanation is None:
            raise AttributionError("call explain_with(...) before trainer.predict")
        how = self.explanation

        limit = limit_of(self.model, how.method.name)

        def attribute(pairs: BlendedBatch) -> Attribution:
            return how.method.attribute(self.model, pairs, how.target, how.baseline)

        def explain(pairs: BlendedBatch) -> Attribution:
            return explain_fitting(attribute, pairs, limit)

        if how.on_error == "raise":
            return explain(batch)
        return explain_possible(explain, batch, all_errors=how.skips)
