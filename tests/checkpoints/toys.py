"""A small float32 model, and the Lightning checkpoint that training it would leave."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch

from gradgene.checkpoints import LoadedModel, LoadReport
from gradgene.lit import FineTuning, MaskedTarget, PhenotypeModule
from gradgene.tokens import TokenBatch
from tests.planted import make_cells, make_model, make_tokenizer

__all__ = ["logits", "original", "save_lightning"]


def original(trained_on: tuple[str, ...] = ()) -> LoadedModel:
    """A random float32 model with its tokenizer, as training would leave them."""
    tokenizer = make_tokenizer(make_cells())
    model = make_model(tokenizer.vocabulary).float()
    return LoadedModel(model, tokenizer, LoadReport("none", "", 0), trained_on)


def save_lightning(made: LoadedModel, file: Path) -> None:
    """Let Lightning write the checkpoint, as it does while training."""
    module = PhenotypeModule(
        made.model,
        made.tokenizer.schema,
        "disease",
        FineTuning(),
        MaskedTarget(),
        trained_on=made.trained_on,
    )
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(file)


def logits(made: LoadedModel, tokens: TokenBatch) -> torch.Tensor:
    """Logits at every position."""
    with torch.no_grad():
        output: torch.Tensor = made.model(tokens).logits_ntv
    return output
