"""Metrics of a pruned panel: pure functions over probabilities, by arm."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional import classification

from gradgene.pruning.predict import Predictions

__all__ = ["arm_metrics", "contrast_accuracy"]


def arm_metrics(
    predictions: Predictions, truth_n: np.ndarray, input_label: str, baseline_label: str
) -> dict[tuple[str, str], float]:
    """(arm, metric) -> value for cells of the two labels of a contrast.

    Parameters
    ----------
    predictions
        Predictions of these cells.
    truth_n
        (cells,) index of the true label among `predictions.labels`.
    input_label, baseline_label
        The arms. Each arm has one true class, so there recall equals accuracy and precision is
        degenerate, as in the paper; `both` is where balanced accuracy and AUROC mean something.
    """
    of = {
        "input": truth_n == predictions.labels.index(input_label),
        "baseline": truth_n == predictions.labels.index(baseline_label),
    }
    of["both"] = of["input"] | of["baseline"]
    values: dict[tuple[str, str], float] = {}
    p_nc, t_n = torch.from_numpy(predictions.probabilities_nc), torch.from_numpy(truth_n).long()
    for arm, rows in of.items():
        if not rows.any():
            continue
        p, t = p_nc[rows], t_n[rows]
        for name, value in _label_metrics(p, t).items():
            values[arm, name] = value
        values[arm, "probability"] = float(p[torch.arange(len(t)), t].mean())
    if of["input"].any() and of["baseline"].any():
        recalls = [values[arm, "accuracy"] for arm in ("input", "baseline")]
        values["both", "balanced_accuracy"] = sum(recalls) / 2
        values["both", "auroc"] = _auroc(
            p_nc[of["both"]], t_n[of["both"]], predictions, input_label
        )
    return values


def _label_metrics(p_nc: torch.Tensor, t_n: torch.Tensor) -> dict[str, float]:
    n = p_nc.shape[1]
    return {
        "accuracy": float(
            classification.multiclass_accuracy(p_nc, t_n, num_classes=n, average="micro")
        ),
        "f1": float(classification.multiclass_f1_score(p_nc, t_n, n, average="weighted")),
        "precision": float(classification.multiclass_precision(p_nc, t_n, n, average="weighted")),
        "recall": float(classification.multiclass_recall(p_nc, t_n, n, average="weighted")),
    }


def _auroc(
    p_nc: torch.Tensor, t_n: torch.Tensor, predictions: Predictions, input_label: str
) -> float:
    """AUROC of the input's label over cells of both arms."""
    u = predictions.labels.index(input_label)
    return float(classification.binary_auroc(p_nc[:, u].contiguous(), (t_n == u).long()))


def contrast_accuracy(
    predictions: Predictions, truth_n: np.ndarray, input_label: str, baseline_label: str
) -> float:
    """Balanced accuracy of choosing between the two labels alone, over cells of both."""
    u, v = predictions.labels.index(input_label), predictions.labels.index(baseline_label)
    says_u = predictions.probabilities_nc[:, u] > predictions.probabilities_nc[:, v]
    return float((says_u[truth_n == u].mean() + (~says_u[truth_n == v]).mean()) / 2)
