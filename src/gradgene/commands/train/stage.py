"""`gradgene train`: fine-tune a model to name the masked target label."""

from __future__ import annotations

from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig

from gradgene.cells import Cells
from gradgene.checkpoints import LoadedModel, LoadReport, ModelFacts, load_checkpoint, save_folder
from gradgene.commands.config.binding import build
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.estimate.training import measure_training
from gradgene.commands.line.options import Options
from gradgene.commands.run.folder import interruptible
from gradgene.commands.run.refusals import learnt_from
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.sweep.planned import Estimate
from gradgene.commands.train.batches import TrainingBatches, least_size
from gradgene.errors import ConfigError
from gradgene.evaluation import (
    Calibration,
    confusion,
    prediction_quality,
    quality_by_donor,
    tempered,
)
from gradgene.halving import tried
from gradgene.lit import CellDataModule, FineTuning, HistoryCallback, PhenotypeModule, with_head
from gradgene.models import PhenotypeGeneTransformer
from gradgene.provenance import settings_hash
from gradgene.pruning import Predictions, predict
from gradgene.store import write_json, write_parquet

__all__ = [
    "data_report",
    "elsewhere",
    "fit",
    "forecast_training",
    "run",
    "stand_in",
    "train",
    "training_estimate",
]

PREDICT_TOKENS = 8192


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Train and judge on held-out cells; continues an interrupted training."""
    with Workspace(cfg, output_dir) as work:
        if options.dry_run:
            work.refuse_other_training()
            data_report(work)
            tell_stages(work, {"train": forecast_training}, planned=options.planned)
            return
        work.write_provenance()
        work.stage("train", train)
        work.write_provenance()


def forecast_training(work: Workspace) -> Forecast:
    """How many epochs of what, and what they will take by some steps of a copy."""
    data, finetune = work.data, build(work.cfg.finetune)
    if work.cfg.checkpoint.path is not None:
        return Forecast("judge the model of checkpoint.path")
    n_cells, n_batches = data.split.train_n.size, len(data.train_dataloader())
    said = f"{finetune.max_epochs} epochs of {n_cells} cells in {n_batches} batches"
    stops = "early_stopping" in (work.cfg.callbacks or {})
    return Forecast(said, training_estimate(work), "what stopping early saves" if stops else "")


def training_estimate(work: Workspace) -> Estimate:
    """What one training of the study takes."""
    loaders = work.data.train_dataloader(), work.data.val_dataloader()
    epochs, n_steps = int(work.cfg.trainer.max_epochs), -(-len(loaders[0]) // work.n_processes)
    return measure_training(work, phenotype_module(work), loaders, epochs * n_steps, epochs)


def stand_in(work: Workspace) -> None:
    """Before there is a trained model, let an untrained one of its shape stand in for it.

    It takes as long to explain and to prune; for a dry run only.
    """
    if work.cfg.checkpoint.path is None and not work.is_done("train"):
        model = phenotype_module(work).model.eval().to(work.device)
        work.loaded = LoadedModel(model, work.data.tokenizer, LoadReport("untrained", "", 0))


def train(work: Workspace) -> None:
    """Fit, calibrate the best checkpoint, judge it on held-out cells and export it as a folder."""
    report = data_report(work)
    if work.is_main:
        write_json(report, work.folder / "data_report.json")
    given = work.cfg.checkpoint.path is not None
    batches = None if given else fit(work)
    if not work.is_main:
        return
    if batches is None:
        judge(work, work.loaded.model)
        return
    batches.note(work, TrainingBatches.of(work))
    best = load_checkpoint(work.checkpoint)
    model = best.model.to(work.device)
    validated = best_epoch(work)
    work.add_metrics(validated)
    metrics = {**validated, **judge(work, model, calibrate(work, model))}
    hf = work.folder / "checkpoints" / "hf"
    save_folder(model, best.tokenizer, hf, best.trained_on, model_facts(work, metrics))


def elsewhere(work: Workspace, folder: Path, cells: Cells, seed: int | None = None) -> Workspace:
    """A workspace of the same configuration in its own folder, to train on other `cells`.

    They are those of the study's data in the same order, changed; their split is the study's. First
    weights and dropout are drawn from `seed`, or from that of the study.
    """
    cfg = work.cfg.copy()
    if seed is not None:
        cfg.study.seed = seed
    again = Workspace(cfg, folder)  # seeds everything
    data: CellDataModule = copy(work.data)
    data.cells = cells
    again.data = data
    return again


def fit(work: Workspace) -> TrainingBatches:
    """Run Lightning's fit, and say with which batches.

    Where one does not fit in memory they are halved, with as many cells a step as before, and the
    training goes on from the last checkpoint, or begins anew where there is none.
    """
    data = work.data
    if not data.split.validation_n.size:
        raise ConfigError(
            "no cell is left to choose the checkpoint on",
            where="data.validation",
            found=f"{data.validation} of {data.split.train_n.size} cells",
            fix="raise data.validation",
        )
    batches, random = TrainingBatches.of(work), torch.get_rng_state()
    while not tried(partial(fit_with, work, batches)):
        data.trainer = None  # it holds the model that did not fit
        batches = batches.halved(work, least_size(work, batches.unit))
        torch.set_rng_state(random)  # the same weights to begin with
    return batches


def fit_with(work: Workspace, batches: TrainingBatches) -> None:
    """Run Lightning's fit, from the last checkpoint where one is left from an interruption."""
    data, module = work.data, phenotype_module(work)
    setattr(data, batches.unit, batches.size)
    folder = work.folder / "checkpoints"
    callbacks = build(work.cfg.callbacks)
    if "checkpoint" in callbacks:
        callbacks["checkpoint"] = callbacks["checkpoint"](dirpath=folder)
    last = folder / "last.ckpt"
    if last.is_file():
        load_checkpoint(last)  # a damaged one is refused here, in one line
    with interruptible():
        work.trainer(
            logger=work.loggers or False,
            callbacks=[*callbacks.values(), HistoryCallback(work.folder / "training.csv")],
            accumulate_grad_batches=batches.accumulated,
        ).fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)


def best_epoch(work: Workspace) -> dict[str, float]:
    """Figures of the validation cells after the epoch that `best.ckpt` is of, by which to choose.

    A search for settings must not look at held-out cells.
    """
    history = pd.read_csv(work.folder / "training.csv")
    chosen_by = work.cfg.callbacks.checkpoint
    watched = history[chosen_by.monitor]
    row = history.loc[watched.idxmin() if chosen_by.mode == "min" else watched.idxmax()]
    figures = {str(name): float(row[name]) for name in history if str(name).startswith("val/")}
    return {**figures, "val/epoch": float(row["epoch"])}


def phenotype_module(work: Workspace) -> PhenotypeModule:
    """What is fitted: the configured model with the head of the arm."""
    data, target = work.data, work.facts.target
    finetune: FineTuning = build(work.cfg.finetune)
    if work.start is None and finetune.arm != "full":
        work.console.print(
            f"[yellow]finetune.arm={finetune.arm} keeps weights fixed that are random: "
            "begin with a trained model, model=pretrained model.path=...[/]"
        )
    model = build(work.cfg.model)(data.tokenizer.vocabulary)
    truth_n = data.tokenizer.true_labels(data.part("train"), target)
    n_labels = len(data.tokenizer.vocabulary.label_ids(target))
    return PhenotypeModule(
        model=with_head(model, finetune.head, target),
        schema=data.schema,
        target=target,
        finetune=finetune,
        objective=build(work.cfg.objective),
        trained_on=learnt_from(data, work.start),
        n_cells_c=np.bincount(truth_n, minlength=n_labels).tolist(),
        seed=work.facts.seed,
    )


def calibrate(work: Workspace, model: PhenotypeGeneTransformer) -> Calibration:
    """Fit the temperature on validation cells and write it beside the checkpoints."""
    calibration = Calibration.of(*predicted(work, model, "validation"))
    write_json(calibration.to_dict(), work.folder / "checkpoints" / "calibration.json")
    return calibration


def predicted(
    work: Workspace, model: PhenotypeGeneTransformer, part: str
) -> tuple[Predictions, np.ndarray]:
    """What the model says of a part's whole cells, and the index (cells,) of the true labels."""
    cells, tokenizer, target = work.data.part(part), work.data.tokenizer, work.facts.target
    found = predict(model, tokenizer.encode(cells), target, PREDICT_TOKENS)
    return found, tokenizer.true_labels(cells, target)


def judge(
    work: Workspace, model: PhenotypeGeneTransformer, calibration: Calibration | None = None
) -> dict[str, float]:
    """Measure the model on held-out cells, overall, by donor and by label."""
    facts = work.facts
    found, truth_n = predicted(work, model, "test")
    quality = prediction_quality(found, truth_n, facts.input, facts.baseline)
    metrics = {f"test/{k}": v for k, v in quality.items()}
    if calibration is not None:
        cool = tempered(found, calibration.temperature)
        after = prediction_quality(cool, truth_n, facts.input, facts.baseline)["ece"]
        metrics["calibration/temperature"] = calibration.temperature
        metrics |= {"calibration/ece_before": quality["ece"], "calibration/ece_after": after}
    work.add_metrics(metrics)
    write_parquet(confusion(found, truth_n), work.folder / "confusion.parquet")
    if facts.donor is not None:
        donors_n = work.data.part("test").obs[facts.donor].astype(str).to_numpy()
        table = quality_by_donor(found, truth_n, donors_n, facts.input, facts.baseline)
        write_parquet(table, work.folder / "test_donors.parquet")
    work.console.print(
        f"held-out cells: balanced accuracy {quality['balanced_accuracy']:.3f} over "
        f"{len(found.labels)} labels, {facts.input} against {facts.baseline} "
        f"{quality['contrast_balanced_accuracy']:.3f}"
    )
    return metrics


def model_facts(work: Workspace, metrics: dict[str, float]) -> ModelFacts:
    """What the model card says of the training."""
    data = work.data_facts
    files = [data] if isinstance(data, dict) else data
    return ModelFacts(
        target=work.facts.target,
        data=", ".join(Path(file["path"]).name for file in files),
        data_hash=data["sha256"] if isinstance(data, dict) else settings_hash(data),
        metrics=metrics,
    )


def data_report(work: Workspace) -> dict[str, Any]:
    """What was read and how it was split, which is said as well."""
    data = work.data
    assert data.cells is not None  # set up by the workspace
    table = data.table()
    dropped = data.cells.dropped
    n_kept = sum(rows.size for rows in data.split.names.values())
    notes = [*data.cells.notes]
    if data.schema.donor is None:
        notes.append("No donor column: held-out cells may come from donors that were trained on.")
    if work.start is not None and not work.start.trained_on:
        notes.append("The pretrained model does not say which donors it learnt from.")
    notes += [f"{name}: {found}" for name, found in data.truncation().items() if found.n_cut]
    if data.train_tokens and work.cfg.checkpoint.path is None:
        found = data.tokenizer.truncation(data.part("train"), data.train_tokens)
        notes += [f"training: {found}, drawn anew in every epoch"] if found.n_cut else []
    report: dict[str, Any] = {
        "n_cells_read": n_kept + sum(dropped.values()),
        "n_cells_kept": n_kept,
        "dropped": dropped,
        "n_genes": len(data.tokenizer.vocabulary.genes),
        "split": data.split.kind,
        "notes": notes,
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }
    said = [f"{n_kept} cells x {report['n_genes']} genes", f"held out: {data.split.kind}"]
    said += [f"left out {n} cells ({reason})" for reason, n in dropped.items()]
    work.console.print("; ".join(said))
    for note in notes:
        work.console.print(note, style="yellow", markup=False)
    return report
