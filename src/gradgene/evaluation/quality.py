"""How well a model names the target label of held-out cells, overall and by donor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional import classification

from gradgene.pruning import Predictions, contrast_accuracy

__all__ = ["confusion", "prediction_quality", "quality_by_donor"]

#: Bins of confidence in the expected calibration error.
ECE_BINS = 15


def prediction_quality(
    predictions: Predictions, truth_n: np.ndarray, input_label: str, baseline_label: str
) -> dict[str, float]:
    """Metrics over all labels of the category, and of the contrast alone.

    Macro averages run over the labels that occur in `truth_n`. NaN where a metric is undefined:
    an AUROC of cells that are all of one label, a contrast without cells of both labels.

    Parameters
    ----------
    predictions
        Predictions of these cells.
    truth_n
        (cells,) index of the true label among `predictions.labels`.
    input_label, baseline_label
        The labels of the study. `contrast_balanced_accuracy` and `contrast_auroc` choose between
        these two only, over cells of these two.

    Returns
    -------
    dict
        `accuracy`, `balanced_accuracy`, `macro_f1`; `auroc`, of the two labels if there are only
        two and otherwise the mean over labels of one against the rest; `ece`, the expected
        calibration error of the label named, in 15 bins of confidence;
        `contrast_balanced_accuracy`, `contrast_auroc`, `n_cells`.
    """
    p_nc, t_n = torch.from_numpy(predictions.probabilities_nc), torch.from_numpy(truth_n).long()
    n = p_nc.shape[1]
    occurring = torch.bincount(t_n, minlength=n) > 0
    recall_c = classification.multiclass_recall(p_nc, t_n, num_classes=n, average="none")
    f1_c = classification.multiclass_f1_score(p_nc, t_n, num_classes=n, average="none")
    accuracy = classification.multiclass_accuracy(p_nc, t_n, num_classes=n, average="micro")
    ece = classification.multiclass_calibration_error(p_nc, t_n, n, n_bins=ECE_BINS, norm="l1")
    u, v = predictions.labels.index(input_label), predictions.labels.index(baseline_label)
    balanced, auroc = float("nan"), float("nan")
    if occurring[u] and occurring[v]:
        both = (t_n == u) | (t_n == v)
        balanced = contrast_accuracy(predictions, truth_n, input_label, baseline_label)
        auroc = _one_auroc(p_nc[both, u], p_nc[both, v], t_n[both] == u)
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(recall_c[occurring].mean()),
        "macro_f1": float(f1_c[occurring].mean()),
        "auroc": _auroc(p_nc, t_n),
        "ece": float(ece),
        "contrast_balanced_accuracy": balanced,
        "contrast_auroc": auroc,
        "n_cells": len(truth_n),
    }


def _auroc(p_nc: Tensor, t_n: Tensor) -> float:
    """Mean over the labels that occur of each against the rest; NaN where only one occurs.

    Of two labels both directions are the same number.
    """
    occurring = t_n.unique()
    if len(occurring) < 2:
        return float("nan")
    others = [torch.arange(p_nc.shape[1]) != c for c in occurring]
    each = [
        _one_auroc(p_nc[:, c], p_nc[:, other].double().sum(dim=1), t_n == c)
        for c, other in zip(occurring, others, strict=True)
    ]
    return sum(each) / len(each)


def _one_auroc(p_n: Tensor, rest_n: Tensor, is_it_n: Tensor) -> float:
    """AUROC of the share p / (p + rest)."""
    # In float64, so that shares next to 1 are not all the same; the floor keeps 0/0 away.
    p_n, rest_n = p_n.double().clamp(min=1e-300), rest_n.double().clamp(min=1e-300)
    return float(classification.binary_auroc(p_n / (p_n + rest_n), is_it_n.long()))


def quality_by_donor(
    predictions: Predictions,
    truth_n: np.ndarray,
    donors_n: np.ndarray,
    input_label: str,
    baseline_label: str,
) -> pd.DataFrame:
    """`prediction_quality` of each donor's cells alone.

    Returns `donor, n_cells`, then `n_cells/<label>` for every label that occurs in any donor, then
    the metrics; one that is undefined for a donor is null. `donors_n` (cells,) names the donors.
    """
    rows = []
    shown = np.unique(truth_n)
    for donor in sorted(set(donors_n)):
        mine = np.flatnonzero(donors_n == donor)
        part = Predictions(predictions.probabilities_nc[mine], predictions.labels)
        quality = prediction_quality(part, truth_n[mine], input_label, baseline_label)
        counts = {
            f"n_cells/{predictions.labels[c]}": int((truth_n[mine] == c).sum()) for c in shown
        }
        rows.append({"donor": str(donor), "n_cells": quality.pop("n_cells"), **counts, **quality})
    return pd.DataFrame(rows)


def confusion(predictions: Predictions, truth_n: np.ndarray) -> pd.DataFrame:
    """Cells of each true and named label: `truth, predicted, n_cells`, every combination.

    `truth_n` (cells,) is the index of the true label among `predictions.labels`.
    """
    p_nc, t_n = torch.from_numpy(predictions.probabilities_nc), torch.from_numpy(truth_n).long()
    n_cc = classification.multiclass_confusion_matrix(p_nc, t_n, num_classes=p_nc.shape[1])
    labels = predictions.labels
    rows = [(a, b, int(n_cc[i, j])) for i, a in enumerate(labels) for j, b in enumerate(labels)]
    return pd.DataFrame(rows, columns=["truth", "predicted", "n_cells"])
