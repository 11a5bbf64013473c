"""The model's quality on test cells."""

from __future__ import annotations

from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table, metric_value

__all__ = ["QUALITY", "confusion_table", "donor_table", "quality_table"]

#: A confusion matrix of more labels is no table to read; it is in confusion.parquet.
MOST_LABELS = 20

#: Metric → what it is.
QUALITY = {
    "test/balanced_accuracy": "Balanced accuracy (mean recall over labels)",
    "test/contrast_balanced_accuracy": "Balanced accuracy, input against baseline label",
    "test/accuracy": "Accuracy",
    "test/macro_f1": "Macro F1",
    "test/auroc": "AUROC (mean over labels, each against the rest)",
    "test/contrast_auroc": "AUROC, input against baseline label",
    "test/ece": "Expected calibration error",
    "calibration/temperature": "Temperature fitted on validation cells",
    "calibration/ece_after": "Expected calibration error at that temperature",
    "test/n_cells": "Test cells",
}


def quality_table(run: RunFiles) -> Table | None:
    """The model's figures on the test cells, of those that were measured."""
    metrics = run.metrics or {}
    rows = [
        (name, metric_value(key, metrics[key])) for key, name in QUALITY.items() if key in metrics
    ]
    return make_table(["On test cells", "Value"], rows)


def donor_table(run: RunFiles) -> Table | None:
    """The model's figures on the test cells of each donor."""
    names = {
        "donor": "Donor",
        "n_cells": "Cells",
        "balanced_accuracy": "Balanced accuracy",
        "macro_f1": "Macro F1",
        "auroc": "AUROC",
        "contrast_balanced_accuracy": "Balanced accuracy, input against baseline",
        "ece": "Calibration error",
    }
    if run.donors is None:
        return None
    present = [name for name in names if name in run.donors]
    rows = [tuple(row) for row in run.donors[present].itertuples(index=False)]
    return make_table([names[name] for name in present], rows)


def confusion_table(run: RunFiles) -> Table | None:
    """Test cells by true label (rows) and label named (columns), of labels that occur."""
    if run.confusion is None:
        return None
    seen = run.confusion[run.confusion["n_cells"] > 0]
    wide = run.confusion.pivot(index="truth", columns="predicted", values="n_cells")
    wide = wide.loc[wide.index.isin(seen["truth"]), wide.columns.isin(seen["predicted"])]
    if len(wide) > MOST_LABELS:
        return None
    rows = [
        (str(truth), *map(int, row)) for truth, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return make_table(["True label", *(f"named {label}" for label in wide.columns)], rows)
