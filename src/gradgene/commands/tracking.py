"""The experiment tracker of a run, if one is configured."""

from __future__ import annotations

from typing import Any

from gradgene.commands.binding import build
from gradgene.commands.run_folder import RunFolder
from gradgene.reports import wandb

__all__ = ["tracker"]


def tracker(work: RunFolder) -> Any:
    """A Lightning logger writing to the run's folder, or None for `logger=none`.

    In a distributed training only the main process has one.

    One logger serves all stages of a command. Weights & Biases is offline where there is no API
    key or no connection, and never asks for anything.
    """
    if work.logger is None and work.is_main and work.cfg.get("logger"):
        work.logger = _open(work)
    return work.logger


def _open(work: RunFolder) -> Any:
    node = work.cfg.logger
    make = build(node)
    if "Wandb" not in node["_target_"]:
        return make(save_dir=work.folder)
    mode = wandb.wandb_mode()
    wandb.quiet_environment(mode)
    # The folder before the run: otherwise wandb falls back to a temporary one.
    (work.folder / "wandb").mkdir(exist_ok=True)
    more = {"save_dir": work.folder, "log_model": False}
    if "pretraining" in work.cfg:
        more["job_type"] = "pretrain"
    logger = make(offline=mode != "online", **more)
    if wandb.opens(lambda: logger.experiment):
        return logger
    wandb.quiet_environment("offline")
    return make(offline=True, **more)
