"""Compare a model shared out between two processes with the whole one; run as a program."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.multiprocessing.spawn import start_processes

from gradgene.commands.main import end_process
from gradgene.lit import (
    FineTuning,
    MaskedTarget,
    PhenotypeModule,
    Pretraining,
    PretrainingModule,
    fsdp,
)
from gradgene.lit.streaming import SeededTokens
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import MaskedTokens
from gradgene.tokens.masking import cell_seeds
from tests.planted import make_cells, make_tokenizer

Module = PretrainingModule | PhenotypeModule

#: So small that every gradient is clipped to it.
NORM = 0.01


class Step(nn.Module):
    """The training step as a forward pass, which is how Lightning runs it under FSDP."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Tensor:
        """Mean loss of a batch, without a trainer to log it to."""
        self.module.log = lambda *given, **more: None  # type: ignore[method-assign,assignment]
        return self.module.training_step(batch, 0)


def compare(rank: int, port: str) -> None:
    """Loss and gradient norm of the whole and of the shared model are the same."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    cells = make_cells(16, 40)
    tokenizer = make_tokenizer(cells)
    tokens = tokenizer(cells)
    seeded = SeededTokens(tokens, cell_seeds(torch.arange(len(tokens)).numpy(), 1))
    torch.manual_seed(0)
    model, other = (
        PhenotypeGeneTransformer(
            tokenizer.vocabulary, dim=16, n_layers=3, n_heads=2, hidden_dim=32, dropout=0.0
        )
        for _ in range(2)
    )
    compare_one(PretrainingModule(model, cells.schema, Pretraining(), MaskedTokens(), 10), seeded)
    few = FineTuning(arm="last_k")  # some weights learn and others do not
    tuned = PhenotypeModule(other, cells.schema, "disease", few, MaskedTarget())
    tuned.setup("fit")
    compare_one(tuned, tokens)
    distributed.destroy_process_group()
    end_process(0)


def compare_one(module: Module, batch: Any) -> None:
    """Loss, norm and clipped norm of one module."""
    whole = Step(module)(batch)
    whole.backward()
    gradients = [w.grad.reshape(-1) for w in module.parameters() if w.grad is not None]
    norm = torch.cat(gradients).norm()
    module.zero_grad()
    shared = FullyShardedDataParallel(Step(module), device_id=torch.device("cpu"), **fsdp().kwargs)
    pieces = [m for m in shared.modules() if isinstance(m, FullyShardedDataParallel)]
    assert len(pieces) == 1 + 3, "each block is shared out by itself"
    loss = shared(batch)
    loss.backward()
    torch.testing.assert_close(loss, whole)
    strategy = fsdp()
    strategy.model = shared
    trainer: Any = SimpleNamespace(strategy=strategy)
    module.trainer = trainer
    assert norm > NORM
    torch.testing.assert_close(shared.clip_grad_norm_(2 * float(norm)), norm)
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), NORM, "norm")
    torch.testing.assert_close(shared.clip_grad_norm_(1.0), torch.tensor(NORM))


if __name__ == "__main__":
    # Forked with everything imported: importing takes longer than comparing.
    start_processes(compare, (sys.argv[1],), nprocs=2, start_method="fork")
