"""A small float32 model, and the Lightning checkpoint that training it would leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch

from gradgene.checkpoints import LoadedModel, LoadReport
from gradgene.lit import FineTuning, MaskedTarget, PhenotypeModule
from gradgene.tokens import TokenBatch
from tests.planted import make_cells, make_model, make_tokenizer

__all__ = ["logits", "original", "save_lightning"]


def original(trained_on: tuple[str, ...] = (), **size: Any) -> LoadedModel:
    """A random float32 model with its tokenizer, as training would leave them."""
    tokenizer = make_tokenizer(make_cells())
    model = make_model(tokenizer.vocabulary, **size).float()
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
    """Logits at every position; of a model that only classifies, those of its classifier."""
    with torch.no_grad():
        if made.model.size["head"] == "none":
            embeddings_ntd = made.model.embed(tokens)
            return made.model.read(embeddings_ntd, tokens.attention_mask_nt, "disease")
        output: torch.Tensor = made.model(tokens).logits_ntv
    return output
