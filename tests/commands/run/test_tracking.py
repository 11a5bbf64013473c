"""Loggers are chosen side by side, and what cannot be tracked is refused before any work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from gradgene.commands.config.binding import bind
from gradgene.commands.config.groups import conf_dir
from gradgene.commands.run import tracking
from gradgene.commands.run.tracking import check_loggers, tracked
from gradgene.errors import ConfigError
from tests.wandb_files import nobody, offline_runs

STUDY = {
    "pretrain": ["study.name=tiny"],
    "config": "study.name=tiny study.target=d study.input=a study.baseline=b".split(),
}


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path) -> Iterator[None]:
    with nobody(tmp_path):
        yield


def composed(*overrides: str, root: str = "config") -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(root, overrides=[*STUDY[root], *overrides])


@pytest.mark.parametrize("root", ["config", "pretrain"])
@pytest.mark.parametrize(
    ("choice", "loggers"),
    [
        ("wandb", ["wandb"]),
        ("csv", ["csv"]),
        ("tensorboard", ["tensorboard"]),
        ("none", []),
        ("[]", []),
        ("[wandb,csv]", ["wandb", "csv"]),
        ("[csv,tensorboard,wandb]", ["csv", "tensorboard", "wandb"]),
    ],
)
def test_one_logger_none_or_several(root: str, choice: str, loggers: list[str]) -> None:
    cfg = composed(f"logger={choice}", root=root)
    assert [*(cfg.get("logger") or {})] == loggers
    bind(cfg, missing_ok=True)
    check_loggers(cfg)


def test_a_setting_of_one_of_several() -> None:
    cfg = composed("logger=[wandb,csv]", "logger.wandb.project=mine")
    assert (cfg.logger.wandb.project, cfg.logger.wandb.group) == ("mine", "tiny")


def test_what_is_not_installed_is_refused_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("logger=[csv,tensorboard]")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r'logger\.tensorboard: .*pip install "gradgene\[tensorboard\]"'
    ):
        check_loggers(cfg)
    check_loggers(composed("logger=csv"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+logger.wandb.projct=mine", r"logger\.wandb\.projct.*'project'"),
        ("+logger.project=mine", r"write logger\.wandb\.project="),
        ("+logger.wandb.dir=x", r"logger\.wandb\.dir: is not to be set"),
    ],
)
def test_a_setting_that_nobody_takes_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_loggers(composed(override))


class Work:
    """As much of a run's folder as a tracker needs."""

    METRICS: ClassVar[dict[str, tuple[str, ...]]] = {"prune": ("pruning/",)}

    def __init__(self, folder: Path, logger: dict[str, Any]) -> None:
        self.cfg = OmegaConf.create({"logger": logger, "study": {"name": "tiny"}})
        self.folder, self.loggers = folder, []  # type: ignore[var-annotated]
        self.checkpoint = folder / "no.ckpt"
        (folder / "metrics.json").write_text('{"pruning/chance": 0.5}')

    def dataset(self) -> dict[str, Any]:
        return {"name": "cells.h5ad", "sha256": "0", "n_cells": 1, "n_genes": 1}


CSV = {
    "csv": {
        "_target_": "lightning.pytorch.loggers.CSVLogger",
        "_partial_": True,
        "name": "csv/{stage}{job}",
    }
}


def test_loggers_are_open_inside_a_stage_only(tmp_path: Path) -> None:
    work = Work(tmp_path, CSV)
    with tracked(work, "prune"):
        (logger,) = work.loggers
        logger.log_metrics({"seen": 1.0}, 3)
    assert work.loggers == []
    text = (tmp_path / "csv" / "prune" / "version_0" / "metrics.csv").read_text()
    assert "pruning/chance" in text and "stage/prune/seconds" in text and "seen" in text


def test_a_failure_passes_through_and_closes(tmp_path: Path) -> None:
    work = Work(tmp_path, CSV)
    with pytest.raises(KeyboardInterrupt), tracked(work, "prune"):
        work.loggers[0].log_metrics({"seen": 1.0}, 3)
        raise KeyboardInterrupt
    assert work.loggers == []
    text = (tmp_path / "csv" / "prune" / "version_0" / "metrics.csv").read_text()
    assert "seen" in text and "pruning/chance" not in text


def test_nothing_is_written_without_loggers(tmp_path: Path) -> None:
    work = Work(tmp_path, {})
    with tracked(work, "prune"):
        assert work.loggers == []
    assert [file.name for file in tmp_path.iterdir() if file.name != "wb"] == ["metrics.json"]


def test_disabled_is_no_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb = {"_target_": "lightning.pytorch.loggers.WandbLogger", "_partial_": True}
    work = Work(tmp_path, {"wandb": wandb, **CSV})
    with tracked(work, "prune"):
        assert [logger.called for logger in work.loggers] == ["csv"]
    assert offline_runs(tmp_path) == []


def test_a_results_file_that_is_damaged_costs_no_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(tmp_path, CSV)
    with tracked(work, "prune"):
        (tmp_path / "metrics.json").write_text("{")
    assert "results not logged" in caplog.text
