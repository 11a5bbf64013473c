"""Validate and train in some processes, and write what each of them saw.

`python processes.py CELLS FOLDER` does so for both kinds of data in one, two and three processes,
into FOLDER/<kind><number>/rank<number>.json. A program, because pytest should not be forked.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

from gradgene.commands.main import end_process
from gradgene.lit import (
    CellDataModule,
    FineTuning,
    MaskedTarget,
    PhenotypeModule,
    Pretraining,
    PretrainingModule,
    StreamDataModule,
    leave_processes,
)
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import MaskedTokens, TokenBatch, Vocabulary
from tests.distributed.forking import run_forked

PHENOTYPES = ("disease", "cell_type", "sex")
BIN_EDGES = (0.1, 4.0, 5.0, 6.0, 7.0)


def cells(tokens: TokenBatch) -> list[str]:
    """The cell of each sequence, told by the genes it shows."""
    return [",".join(map(str, genes[genes >= 0].tolist())) for genes in tokens.gene_ids_nt]


class Witness(lightning.Callback):
    """Notes which cells this process saw, and how many steps it took."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {"train": [], "validation": []}
        self.steps = 0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int
    ) -> None:
        """A training batch."""
        self.steps += 1
        self.seen["train"] += cells(getattr(batch, "tokens", batch))

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, i: int, loader: int = 0
    ) -> None:
        """A batch of the validation before training."""
        if trainer.state.fn == "validate":
            self.seen["validation"] += cells(getattr(batch, "tokens", batch))


def model(vocabulary: Vocabulary) -> PhenotypeGeneTransformer:
    """The same weights in every process."""
    torch.manual_seed(0)
    return PhenotypeGeneTransformer(
        vocabulary, dim=16, n_layers=2, n_heads=2, hidden_dim=32, dropout=0.0
    )


def pretraining(file: str, trainer: lightning.Trainer) -> tuple[Any, Any]:
    """Masked tokens of streamed cells."""
    data = StreamDataModule(
        file,
        PHENOTYPES,
        BIN_EDGES,
        donor="donor",
        holdout_donors=("d3",),
        validation=0.2,
        batch_tokens=500,
        fetch_cells=40,
        block_cells=4,
    )
    data.setup()
    data.trainer = trainer
    return data, PretrainingModule(
        model(data.tokenizer.vocabulary),
        data.schema,
        Pretraining(),
        MaskedTokens(),
        len(data.training),
    )


def study(file: str, trainer: lightning.Trainer) -> tuple[Any, Any]:
    """The masked target of cells in memory."""
    data = CellDataModule(
        file,
        PHENOTYPES,
        target="disease",
        input="case",
        baseline="control",
        bin_edges=BIN_EDGES,
        donor="donor",
        holdout_donors=("d3",),
        validation=0.2,
        batch_size=16,
    )
    data.setup()
    return data, PhenotypeModule(
        model(data.tokenizer.vocabulary), data.schema, "disease", FineTuning(), MaskedTarget()
    )


def main(kind: str, file: str, folder: Path, n: int) -> None:
    """Validate, then train one epoch."""
    warnings.filterwarnings("error", message=".*sync_dist.*")
    witness = Witness()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=n,
        strategy="ddp" if n > 1 else "auto",
        max_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[witness],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data, module = {"pretraining": pretraining, "study": study}[kind](file, trainer)
    (metrics,) = trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    weights = torch.cat([w.detach().reshape(-1) for w in module.parameters()])
    found = {
        "metrics": metrics,
        "steps": witness.steps,
        "weights": float(weights.double().square().sum()),
        **witness.seen,
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))
    leave_processes()
    end_process(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in ("pretraining", "study"):
        for n in (1, 2, 3):
            folder = Path(sys.argv[2], f"{kind}{n}")
            folder.mkdir()
            run_forked(n, partial(main, kind, sys.argv[1], folder, n))
