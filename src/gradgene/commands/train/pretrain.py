"""`gradgene pretrain`: learn from the masked genes and phenotypes of cells streamed from files.

Its settings are those of conf/pretrain.yaml. A training that was broken off anywhere, even killed,
goes on at the exact step with the same command. What it leaves is a run that
`gradgene train model=pretrained model.path=RUN` starts from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig, OmegaConf

from gradgene.cells import resolve_paths
from gradgene.checkpoints import (
    LoadedModel,
    ModelFacts,
    PretrainedModel,
    load_checkpoint,
    save_folder,
)
from gradgene.commands.config.binding import build
from gradgene.commands.config.facts import RunFacts
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.estimate.training import measure_training
from gradgene.commands.line.options import Options
from gradgene.commands.run.folder import RunFolder, deciding, interruptible, stamp
from gradgene.commands.run.refusals import learnt_from
from gradgene.commands.train.batches import TrainingBatches
from gradgene.errors import ConfigError
from gradgene.halving import tried
from gradgene.lit import PretrainingModule, StepHistory, StreamDataModule
from gradgene.provenance import provenance, settings_hash
from gradgene.seeding import seed_everything
from gradgene.store import read_json_lines, write_json
from gradgene.tokens import MaskedTokens

__all__ = ["run"]

#: What decides the result; of the data all but the number of workers.
SECTIONS = ("study", "data", "model", "pretraining", "objective", "trainer")


class PretrainingRun(RunFolder):
    """The folder of one pretraining: its data, and which settings decide its result."""

    METRICS: ClassVar = {"pretrain": ("train/", "val/")}

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        super().__init__(cfg, output_dir)
        self.facts = RunFacts(**_plain(cfg.study))
        self.pretraining, self.objective = build(cfg.pretraining), build(cfg.objective)
        if not isinstance(self.objective, MaskedTokens):
            raise ConfigError(
                "is for studies", where="objective", fix="choose objective=masked_tokens"
            )
        if cfg.trainer.max_epochs != 1:
            raise ConfigError(
                "a pretraining is one epoch to the trainer",
                where="trainer.max_epochs",
                expected="1",
                found=str(cfg.trainer.max_epochs),
                fix="say with data.epochs how often the cells are seen",
            )
        seed_everything(self.facts.seed)

    @cached_property
    def start(self) -> LoadedModel | None:
        """The checkpoint to go on from; None for random weights."""
        model = build(self.cfg.model)
        return model.load() if isinstance(model, PretrainedModel) else None

    @cached_property
    def data(self) -> StreamDataModule:
        """The cells, opened and split once."""
        module = build(self.cfg.data)
        if not isinstance(module, StreamDataModule):
            raise ConfigError("is for studies", where="data", fix="choose data=stream")
        if self.start is not None:
            module.use_tokenizer(self.start.tokenizer)
        with self.console.status("opening files"):
            module.setup()
        return module

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The data files."""
        return resolve_paths(self.cfg.data.path)

    def key(self, stage: str) -> str:
        """Hash of all settings that decide the result, and stamps of the files."""
        plain = {name: dict(_plain(self.cfg[name])) for name in SECTIONS}
        plain["study"].pop("name")
        plain["data"].pop("workers")
        plain["trainer"] = deciding(plain["trainer"])
        named = [OmegaConf.select(self.cfg, key) for key in ("data.genes", "model.path")]
        stamps = [
            stamp(str(name)) for name in (*self.files, *named) if isinstance(name, str | Path)
        ]
        return settings_hash([plain, stamps])

    @property
    def checkpoint(self) -> Path:
        """This run's best checkpoint."""
        return self.folder / "checkpoints" / "best.ckpt"

    def dataset(self) -> dict[str, Any]:
        """`name` of the data's files, their `stamps`, `n_cells` and `n_genes`."""
        report = self.data.report()
        stamps = [{"path": str(file), "stamp": stamp(str(file))} for file in self.files]
        return {
            "name": _few_names(self.files),
            "stamps": settings_hash(stamps),
            "n_cells": report["n_cells_kept"],
            "n_genes": report["n_genes"],
        }

    def write_provenance(self) -> None:
        """Write `config.yaml` and `provenance.json`; of the data sizes and times, not hashes."""
        if not self.is_main:
            return
        weights = self.checkpoint if self.checkpoint.is_file() else None
        facts = provenance(None, weights, self.key("pretrain"), self.device)
        facts["data"] = [{"path": str(f), "stamp": stamp(str(f))} for f in self.files]
        self.write_config(facts)


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Pretrain and export the best checkpoint; continues a training that was broken off."""
    with PretrainingRun(cfg, output_dir) as work:
        if options.dry_run:
            report_data(work)
            tell_stages(work, {"pretrain": forecast_pretraining}, planned=options.planned)
            return
        work.write_provenance()
        work.stage("pretrain", pretrain)
        work.write_provenance()


def forecast_pretraining(work: PretrainingRun) -> Forecast:
    """How many passes over how many cells, and what they take by some steps of a copy."""
    data = work.data
    n_steps = -(-len(data.training) // work.n_processes)
    said = f"{data.epochs} passes over {data.split.train_n.size} cells, {n_steps} batches"
    interval = work.cfg.trainer.get("val_check_interval") or 1.0
    n_validations = round(1 / interval) if interval <= 1 else n_steps // int(interval)
    loaders = data.training, data.val_dataloader()
    return Forecast(
        said, measure_training(work, pretraining_module(work), loaders, n_steps, n_validations)
    )


def pretrain(work: PretrainingRun) -> None:
    """Fit, note the best validation, and export its checkpoint as a folder."""
    report = report_data(work)
    if work.is_main:
        write_json(report, work.folder / "data_report.json")
    asked = TrainingBatches(
        "batch_tokens",
        work.data.streaming.batch_tokens,
        int(work.cfg.trainer.get("accumulate_grad_batches") or 1),
    )
    batches = fit(work, asked)
    if not work.is_main:
        return
    lines = [line for line in read_json_lines(work.folder / "training.jsonl") if "val/loss" in line]
    best = min(lines, key=lambda line: line["val/loss"])
    metrics = {name: value for name, value in best.items() if name.startswith("val/")}
    work.add_metrics({**metrics, "val/step": best["step"]})
    if batches != asked:
        batches.note(work, asked)
    folder = work.folder / "checkpoints"
    loaded = load_checkpoint(folder / "best.ckpt")
    facts = ModelFacts(
        data=_few_names(work.files),
        data_hash=settings_hash([stamp(str(file)) for file in work.files]),
        metrics=metrics,
    )
    save_folder(loaded.model, loaded.tokenizer, folder / "hf", loaded.trained_on, facts)
    work.console.print(
        f"best after step {best['step']}: loss {best['val/loss']:.4f}, "
        + ", ".join(f"{k[4:]} {v:.3f}" for k, v in metrics.items() if k.endswith("/accuracy"))
    )


def fit(work: PretrainingRun, batches: TrainingBatches) -> TrainingBatches:
    """Run Lightning's fit, and say with which batches.

    Where one does not fit in memory they are halved, with as many cells a step as before, as long
    as there is no checkpoint: those count the batches that are done, so all must be alike.

    Raises
    ------
    ConfigError
        If a batch does not fit later.
    """
    data, folder = work.data, work.folder / "checkpoints"
    last, used = folder / "last.ckpt", folder / "batches.json"
    if last.is_file() and used.is_file():
        batches = TrainingBatches(**json.loads(used.read_text()))
    random = torch.get_rng_state()
    while not tried(partial(fit_with, work, batches)):
        if last.is_file():
            raise ConfigError(
                "a batch of the pretraining does not fit in memory midway",
                where="data.batch_tokens",
                found=str(batches.size),
                fix=f"begin in another folder with {batches.half.settings}",
            )
        batches = batches.halved(work, least_tokens(data))
        data.trainer = None  # it holds the model that did not fit
        torch.set_rng_state(random)  # the same weights to begin with
    return batches


def least_tokens(data: StreamDataModule) -> int:
    """The budget at which every batch is a single cell."""
    streams = data.training, data.val_dataloader()
    return max(int(stream.length_n[stream.rows_n].max()) for stream in streams)


def fit_with(work: PretrainingRun, batches: TrainingBatches) -> None:
    """Run Lightning's fit, from the last checkpoint where one is left from an interruption."""
    data, folder = work.data, work.folder / "checkpoints"
    data.use_batches(batches.size)
    if work.is_main:
        write_json(asdict(batches), folder / "batches.json")
    callbacks = build(work.cfg.callbacks)
    for name in ("checkpoint", "last"):
        if name in callbacks:
            callbacks[name] = callbacks[name](dirpath=folder)
    last = folder / "last.ckpt"
    if last.is_file():
        load_checkpoint(last)  # a damaged one is refused here, in one line
    trainer = work.trainer(
        logger=work.loggers or False,
        callbacks=[*callbacks.values(), StepHistory(work.folder / "training.jsonl")],
        accumulate_grad_batches=batches.accumulated,
    )
    data.trainer = trainer  # the number of steps depends on the number of processes
    module = pretraining_module(work)
    with interruptible():
        trainer.fit(
            module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True
        )


def pretraining_module(work: PretrainingRun) -> PretrainingModule:
    """What is fitted: the configured model, in training mode."""
    data = work.data
    return PretrainingModule(
        model=build(work.cfg.model)(data.tokenizer.vocabulary).train(),
        schema=data.schema,
        pretraining=work.pretraining,
        objective=work.objective,
        n_batches=len(data.training),
        trained_on=learnt_from(data, work.start),
        seed=work.facts.seed,
    )


def report_data(work: PretrainingRun) -> dict[str, Any]:
    """What was opened and how it was split, said in a line."""
    report = work.data.report()
    n_cells = report["n_cells"]
    said = [f"{report['n_cells_kept']} cells x {report['n_genes']} genes"]
    said += [f"{n_cells['train']} to train on, {n_cells['validation']} to validate"]
    said += [f"{n_cells['test']} held out ({report['split']})"]
    said += [f"left out {n} cells ({reason})" for reason, n in report["dropped"].items()]
    work.console.print("; ".join([*said, *report["notes"]]))
    return report


def _few_names(files: Sequence[Path]) -> str:
    return ", ".join(file.name for file in files[:3]) + ", …" * (len(files) > 3)


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)
