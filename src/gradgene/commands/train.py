"""`gradgene train`: fine-tune a model to name the masked target label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gradgene.checkpoints import load_checkpoint, save_folder
from gradgene.commands.binding import build
from gradgene.commands.options import Options
from gradgene.commands.tracking import tracker
from gradgene.commands.workspace import Workspace, interruptible
from gradgene.errors import ConfigError
from gradgene.evaluation import prediction_quality
from gradgene.lit import HistoryCallback, PhenotypeModule
from gradgene.pruning import predict
from gradgene.store import write_json

__all__ = ["run", "train"]

PREDICT_TOKENS = 8192


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Train and judge on held-out cells; continues an interrupted training."""
    with Workspace(cfg, output_dir) as work:
        if options.dry_run:
            work.plan("train")
            return
        work.write_provenance()
        work.stage("train", train)
        work.write_provenance()


def train(work: Workspace) -> None:
    """Fit, export the best checkpoint as a folder, and measure it on held-out cells."""
    report_data(work)
    if work.cfg.checkpoint.path is None:
        fit(work)
        best = load_checkpoint(work.checkpoint)
        hf = work.folder / "checkpoints" / "hf"
        save_folder(best.model, best.tokenizer, hf, best.trained_on)
        model = best.model.to(work.device)
    else:
        model = work.loaded.model
    facts, tokenizer, cells = work.facts, work.data.tokenizer, work.data.part("test")
    found = predict(model, tokenizer.encode(cells), facts.target, PREDICT_TOKENS)
    truth_n = tokenizer.true_labels(cells, facts.target)
    quality = prediction_quality(found, truth_n, facts.input, facts.baseline)
    work.add_metrics({f"test/{k}": v for k, v in quality.items()})
    work.console.print(
        f"held-out cells: balanced accuracy {quality['balanced_accuracy']:.3f} over "
        f"{len(found.labels)} labels, {facts.input} against {facts.baseline} "
        f"{quality['contrast_balanced_accuracy']:.3f}"
    )


def fit(work: Workspace) -> None:
    """Run Lightning's fit, from the last checkpoint where one is left from an interruption."""
    data = work.data
    if not data.split.validation_n.size:
        raise ConfigError(
            "no cell is left to choose the checkpoint on",
            where="data.validation",
            found=f"{data.validation} of {data.split.train_n.size} cells",
            fix="raise data.validation",
        )
    module = PhenotypeModule(
        model=build(work.cfg.model)(data.tokenizer.vocabulary),
        schema=data.schema,
        target=work.facts.target,
        finetune=build(work.cfg.finetune),
        objective=build(work.cfg.objective),
        trained_on=trained_on(work),
    )
    folder = work.folder / "checkpoints"
    callbacks = build(work.cfg.callbacks)
    if "checkpoint" in callbacks:
        callbacks["checkpoint"] = callbacks["checkpoint"](dirpath=folder)
    last = folder / "last.ckpt"
    if last.is_file():
        load_checkpoint(last)  # a damaged one is refused here, in one line
    with interruptible():
        work.trainer(
            logger=tracker(work) or False,
            callbacks=[*callbacks.values(), HistoryCallback(work.folder / "training.csv")],
        ).fit(module, data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)


def trained_on(work: Workspace) -> list[str]:
    """Donors (or cells) of the training and validation parts."""
    return sorted({*work.data.units("train"), *work.data.units("validation")})


def report_data(work: Workspace) -> None:
    """Write what was read and how it was split to `data_report.json`, and say it."""
    data = work.data
    assert data.cells is not None  # set up by the workspace
    table = data.table()
    dropped = data.cells.dropped
    n_kept = sum(rows.size for rows in data.split.names.values())
    notes = [*data.cells.notes]
    if data.schema.donor is None:
        notes.append("No donor column: held-out cells may come from donors that were trained on.")
    report: dict[str, Any] = {
        "n_cells_read": n_kept + sum(dropped.values()),
        "n_cells_kept": n_kept,
        "dropped": dropped,
        "n_genes": len(data.tokenizer.vocabulary.genes),
        "split": data.split.kind,
        "notes": notes,
        "table": table.astype(object).where(table.notna(), None).to_dict("records"),
    }
    write_json(report, work.folder / "data_report.json")
    said = [f"{n_kept} cells x {report['n_genes']} genes", f"held out: {data.split.kind}"]
    said += [f"left out {n} cells ({reason})" for reason, n in dropped.items()]
    work.console.print("; ".join(said))
