"""Bars where somebody watches, and a line a minute where nobody does."""

from __future__ import annotations

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from gradgene.lit import Minutes, ProgressBar


class Doubling(LightningModule):
    """Predicts twice what it is given, and learns nothing from ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return 2 * batch

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def work(bar: ProgressBar, fit: bool) -> None:
    """Fit or predict three batches."""
    loader: DataLoader[torch.Tensor] = DataLoader(torch.ones(3), batch_size=1)  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[bar],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    (trainer.fit if fit else trainer.predict)(Doubling(), loader)


def test_a_minute_has_passed_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("gradgene.lit.progress.time.monotonic", lambda: now[0])
    minutes, found = Minutes(), []
    for now[0] in (30.0, 59.0, 61.0, 90.0, 120.0, 122.0):
        found.append(minutes.passed())
    assert found == [False, False, True, False, False, True]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("fit", [True, False])
def test_without_a_terminal_there_is_no_bar(fit: bool, capfd: pytest.CaptureFixture[str]) -> None:
    work(ProgressBar(), fit)
    said = capfd.readouterr()
    assert not [
        mark for mark in ("━", "Epoch", "Predicting", "\x1b") if mark in said.out + said.err
    ]
    work(ProgressBar(every_s=0.0), fit)
    lines = [line for line in capfd.readouterr().out.splitlines() if "batch" in line]
    assert [line.partition(" of 3")[0] for line in lines] == [
        f"{'epoch 1, ' if fit else ''}batch {i}" for i in (1, 2, 3)
    ]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_other_processes_than_the_main_one_say_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(every_s=0.0)
    bar.disable()  # as Lightning does there
    work(bar, fit=True)
    assert "batch" not in capfd.readouterr().out


def test_a_terminal_gets_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    assert ProgressBar().is_enabled
    monkeypatch.delenv("FORCE_COLOR")
    assert not ProgressBar().is_enabled
