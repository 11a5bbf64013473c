"""How well a model names the target label of held-out cells."""

from __future__ import annotations

import numpy as np
import torch
from torchmetrics.functional import classification

from gradgene.pruning import Predictions, contrast_accuracy

__all__ = ["prediction_quality"]


def prediction_quality(
    predictions: Predictions, truth_n: np.ndarray, input_label: str, baseline_label: str
) -> dict[str, float]:
    """Metrics over all labels of the category, and of the contrast alone.

    `truth_n` (cells,) is the index of the true label among `predictions.labels`. Macro averages
    run over the labels that occur in `truth_n`; `contrast_balanced_accuracy` chooses between the
    two labels of the study only.
    """
    p_nc, t_n = torch.from_numpy(predictions.probabilities_nc), torch.from_numpy(truth_n).long()
    n = p_nc.shape[1]
    occurring = torch.bincount(t_n, minlength=n) > 0
    recall_c = classification.multiclass_recall(p_nc, t_n, num_classes=n, average="none")
    f1_c = classification.multiclass_f1_score(p_nc, t_n, num_classes=n, average="none")
    accuracy = classification.multiclass_accuracy(p_nc, t_n, num_classes=n, average="micro")
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(recall_c[occurring].mean()),
        "macro_f1": float(f1_c[occurring].mean()),
        "contrast_balanced_accuracy": contrast_accuracy(
            predictions, truth_n, input_label, baseline_label
        ),
        "n_cells": len(truth_n),
    }
