"""Pretraining learns, and one broken off anywhere ends exactly as one that never stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gradgene.checkpoints import load_checkpoint
from gradgene.errors import ConfigError
from gradgene.lit import (
    LastCheckpoint,
    Pretraining,
    PretrainingModule,
    StepHistory,
    StreamDataModule,
)
from gradgene.lit.streaming import SeededTokens
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import MaskedTokens, TokenBatch
from gradgene.tokens.masking import IGNORED, mask_tokens
from tests.lit.test_phenotype import plain
from tests.lit.toys import trainer, write
from tests.planted import BIN_EDGES, PHENOTYPES, make_adata

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")


class KilledError(Exception):
    """Stands for a power cut."""


class KillAt(lightning.Callback):
    """Breaks a training off at a hook, the n-th time it comes by."""

    def __init__(self, hook: str, n: int) -> None:
        self.left = n
        setattr(self, hook, self.count)

    def count(self, *given: Any) -> None:
        """Fail when the time has come."""
        self.left -= 1
        if self.left == 0:
            raise KilledError


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 planted cells of 24 genes."""
    return write(make_adata(n=160, n_genes=24), tmp_path_factory.mktemp("cells"))


def stream_data(cells: Path, **changes: Any) -> StreamDataModule:
    """Three epochs of random halves of the genes."""
    given: dict[str, Any] = {
        "phenotypes": PHENOTYPES,
        "bin_edges": BIN_EDGES,
        "donor": "donor",
        "holdout_donors": ("d3",),
        "validation": 0.2,
        "train_tokens": 10,
        "epochs": 3,
        "batch_tokens": 300,
        "fetch_cells": 48,
        "block_cells": 4,
    }
    data = StreamDataModule(str(cells), **{**given, **changes})
    data.setup()
    return data


def pretraining_module(data: StreamDataModule, **changes: Any) -> PretrainingModule:
    """A tiny model with dropout, whose draws must be repeated as well."""
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(
        data.tokenizer.vocabulary, dim=16, n_layers=1, n_heads=2, hidden_dim=32, dropout=0.2
    )
    settings = {"learning_rate": 5e-3, "warmup_share": 0.1, **changes}
    return PretrainingModule(
        model, data.schema, Pretraining(**settings), MaskedTokens(), len(data.training), ["d0"], 7
    )


def fit(
    cells: Path, folder: Path, kill: lightning.Callback | None = None, **more: Any
) -> PretrainingModule:
    """Train as `gradgene pretrain` does: from last.ckpt where there is one."""
    data, checkpoints = stream_data(cells), folder / "checkpoints"
    callbacks: list[Any] = [
        ModelCheckpoint(
            dirpath=checkpoints,
            filename="best",
            monitor="val/loss",
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
        LastCheckpoint(checkpoints, every_n_steps=2),
        StepHistory(folder / "training.jsonl"),
        *([kill] if kill else []),
    ]
    module, last = pretraining_module(data), checkpoints / "last.ckpt"
    trainer(
        max_epochs=1,
        callbacks=callbacks,
        enable_checkpointing=True,
        log_every_n_steps=1,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        **{"val_check_interval": 8, **more},
    ).fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    return module


def history(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def state(file: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return found


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def straight(
    cells: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PretrainingModule]:
    """A training without a stop."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, fit(cells, folder)


def test_history_holds_every_step_and_validation(
    cells: Path, straight: tuple[Path, PretrainingModule]
) -> None:
    lines, n = history(straight[0]), len(stream_data(cells).training)
    steps = [line for line in lines if "train/loss" in line]
    validations = [line for line in lines if "val/loss" in line]
    assert [line["step"] for line in steps] == [*range(1, n + 1)]
    assert [line["step"] for line in validations] == [*range(8, n + 1, 8)]
    assert n % 8, "the last step must not validate, or the test misses a case"
    rates = [line["learning_rate"] for line in steps]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(5e-3) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert {"val/bins/perplexity", "val/disease/macro_f1", "val/sex/accuracy"} <= set(
        validations[0]
    )


HOOKS = [
    ("on_train_batch_start", 1),
    ("on_train_batch_end", 1),  # before anything is saved
    ("on_train_batch_start", 5),  # right after a save
    ("on_train_batch_end", 6),  # a step with a save due
    ("on_train_batch_end", 8),  # a validation is due
    ("on_validation_start", 1),
    ("on_validation_batch_end", 1),
    ("on_validation_end", 2),
    ("on_train_batch_start", 17),  # right after a validation
    ("on_train_batch_end", 19),  # in another epoch of the data
    ("on_train_end", 1),
]


@pytest.mark.parametrize(("hook", "n"), HOOKS)
def test_broken_off_anywhere_it_ends_the_same(
    hook: str, n: int, cells: Path, straight: tuple[Path, PretrainingModule], tmp_path: Path
) -> None:
    folder, module = straight
    with pytest.raises(KilledError):
        fit(cells, tmp_path, KillAt(hook, n))
    resumed = fit(cells, tmp_path)
    assert history(tmp_path) == history(folder)
    assert same_weights(dict(resumed.state_dict()), dict(module.state_dict()))
    for name in ("best", "last"):
        files = [f / "checkpoints" / f"{name}.ckpt" for f in (tmp_path, folder)]
        assert same_weights(state(files[0]), state(files[1])), name
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.fixture(scope="module")
def accumulated(
    cells: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PretrainingModule]:
    """A training without a stop that takes a step every third batch."""
    folder = tmp_path_factory.mktemp("accumulated")
    return folder, fit(cells, folder, accumulate_grad_batches=3)


@pytest.mark.parametrize("n", [5, 9, 14])
def test_accumulated_gradients_are_not_lost(
    n: int, cells: Path, accumulated: tuple[Path, PretrainingModule], tmp_path: Path
) -> None:
    folder, whole = accumulated
    with pytest.raises(KilledError):
        fit(cells, tmp_path, KillAt("on_train_batch_end", n), accumulate_grad_batches=3)
    resumed = fit(cells, tmp_path, accumulate_grad_batches=3)
    assert same_weights(dict(resumed.state_dict()), dict(whole.state_dict()))
    assert history(tmp_path) == history(folder)


@pytest.mark.parametrize("every", [7, 8])  # 7 validates the last step, 8 does not
def test_a_finished_training_stays_as_it_is(every: int, cells: Path, tmp_path: Path) -> None:
    first = fit(cells, tmp_path, val_check_interval=every)
    before = history(tmp_path)
    assert (before[-1]["step"] % every == 0) == ("val/loss" in before[-1])
    again = fit(cells, tmp_path, val_check_interval=every)
    assert same_weights(dict(first.state_dict()), dict(again.state_dict()))
    assert history(tmp_path) == before


@pytest.mark.slow
def test_it_learns_bins_and_labels(cells: Path, tmp_path: Path) -> None:
    """Names the planted label better than chance, and bins better than at first."""
    data = stream_data(cells, epochs=60, train_tokens=None, batch_tokens=600)
    module = pretraining_module(data, learning_rate=1e-2)
    module.model.dropout.p = 0.0
    measured: list[dict[str, float]] = []

    class Keep(lightning.Callback):
        def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
            measured.append({k: float(v) for k, v in trainer.callback_metrics.items()})

    trainer(max_epochs=1, val_check_interval=0.25, callbacks=[Keep()]).fit(module, data)
    assert measured[-1]["val/bins/perplexity"] < 0.9 * measured[0]["val/bins/perplexity"]
    assert measured[-1]["val/disease/accuracy"] > 0.75
    assert measured[-1]["val/loss"] < measured[0]["val/loss"]


def test_checkpoints_load_as_every_other(
    cells: Path, straight: tuple[Path, PretrainingModule]
) -> None:
    file = straight[0] / "checkpoints" / "last.ckpt"
    assert plain(torch.load(file, weights_only=True)["hyper_parameters"])
    loaded = load_checkpoint(file)
    assert loaded.vocabulary == straight[1].model.vocabulary
    assert loaded.trained_on == ("d0",)
    assert loaded.tokenizer.schema == stream_data(cells).schema


def test_validation_is_of_whole_cells_with_fixed_masks(
    cells: Path, straight: tuple[Path, PretrainingModule]
) -> None:
    """The logged loss, computed by hand in one batch."""
    data, module = stream_data(cells), straight[1]
    loaded = load_checkpoint(straight[0] / "checkpoints" / "best.ckpt")
    whole = stream_data(cells, batch_tokens=10**6)
    (batch,) = whole.val_dataloader()
    tokens, labels_nt = mask_tokens(
        batch.tokens, data.tokenizer.vocabulary, module.objective, batch.seeds_n
    )
    asked_nt = labels_nt != IGNORED
    with torch.no_grad():
        logits_mv = loaded.model(tokens).logits_ntv[asked_nt]
    vocabulary = data.tokenizer.vocabulary
    loss, n = module.objective.loss(logits_mv, labels_nt[asked_nt], vocabulary)
    assert float(n) == asked_nt.sum()
    logged = min(line["val/loss"] for line in history(straight[0]) if "val/loss" in line)
    assert logged == pytest.approx(float(loss / n), rel=1e-5)


def test_an_empty_batch_changes_nothing(cells: Path) -> None:
    data = stream_data(cells)
    module = pretraining_module(data)
    module.log = lambda *given, **more: None  # type: ignore[method-assign,assignment]
    batch = next(iter(data.train_dataloader()))
    none = torch.zeros(0, dtype=torch.long)
    nothing = {name: tensor[none] for name, tensor in batch.tokens.tensors().items()}
    empty = SeededTokens(TokenBatch(**nothing, pad_id=batch.tokens.pad_id), none)
    loss = module.training_step(empty, 0)
    loss.backward()
    assert float(loss.detach()) == 0
    for name, weight in module.named_parameters():
        assert weight.grad is not None and not weight.grad.any(), name
    module.validation_step(empty, 0)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0.0}, {"warmup_share": 2.0}, {"betas": (0.9, 1.0)}]
)
def test_settings_that_train_nothing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pretraining"):
        Pretraining(**wrong)


def test_saving_never(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every_n_steps"):
        LastCheckpoint(tmp_path, 0)
