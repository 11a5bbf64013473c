"""Metrics of a pruned panel: pure functions over probabilities, by arm."""

from __future__ import annotations

import numpy as np
from scipy import stats

from gradgene.pruning.predict import Predictions

__all__ = ["METRICS", "arm_metrics", "contrast_accuracy", "placements"]

#: Names of all metrics; the last two are of both arms together only.
METRICS = (
    "accuracy f1 precision recall probability probability_drop balanced_accuracy auroc".split()
)


def arm_metrics(
    predictions: Predictions,
    truth_n: np.ndarray,
    input_label: str,
    baseline_label: str,
    whole_n: np.ndarray | None = None,
) -> dict[tuple[str, str], float]:
    """(arm, metric) -> value for cells of the two labels of a contrast.

    `accuracy`, `f1`, `precision` and `recall` are weighted over the true labels, as the paper's.
    `probability` is the mean probability of the true label, `probability_drop` the mean of what it
    was on the whole panel less what it is now (positive where the cut took evidence away).

    Parameters
    ----------
    predictions
        Predictions of these cells.
    truth_n
        (cells,) index of the true label among `predictions.labels`.
    input_label, baseline_label
        The arms. Each arm has one true class, so there recall equals accuracy and precision is
        degenerate (1 or 0), as in the paper; `both` is where balanced accuracy (mean of the two
        arms' accuracies) and AUROC (of the input label's probability) mean something.
    whole_n
        (cells,) probability of the true label on the whole panel; None for no drop.
    """
    u, v = (predictions.labels.index(label) for label in (input_label, baseline_label))
    of = {"input": truth_n == u, "baseline": truth_n == v}
    of["both"] = of["input"] | of["baseline"]
    two_labels = bool(of["input"].any() and of["baseline"].any())
    p_nc = predictions.probabilities_nc
    true_n = p_nc[np.arange(len(p_nc)), truth_n]
    said_n = p_nc.argmax(axis=1)
    values: dict[tuple[str, str], float] = {}
    for arm, rows in of.items():
        if not rows.any():
            continue
        for name, value in _weighted(said_n[rows], truth_n[rows], p_nc.shape[1]).items():
            # Of cells of one label these are other quantities, which no donor of one should give.
            if arm != "both" or name not in ("f1", "precision") or two_labels:
                values[arm, name] = value
        values[arm, "probability"] = float(true_n[rows].mean(dtype=np.float64))
        if whole_n is not None:
            drop_n = whole_n[rows].astype(np.float64) - true_n[rows]
            values[arm, "probability_drop"] = float(drop_n.mean())
    if two_labels:
        recalls = [values[arm, "accuracy"] for arm in ("input", "baseline")]
        values["both", "balanced_accuracy"] = sum(recalls) / 2
        values["both", "auroc"] = _auroc(p_nc[of["both"], u], truth_n[of["both"]] == u)
    return values


def _weighted(said_n: np.ndarray, truth_n: np.ndarray, n_labels: int) -> dict[str, float]:
    """Metrics of each true label, weighted by how many cells have it; 0 for 0/0.

    Those of scikit-learn and torchmetrics with `average="weighted"` (tested), from one count of
    cells by label and prediction: there are thousands of points and donors.
    """
    counts_tc = np.bincount(truth_n * n_labels + said_n, minlength=n_labels**2)
    counts_tc = counts_tc.reshape(n_labels, n_labels)
    right_c, true_c, said_c = counts_tc.diagonal(), counts_tc.sum(axis=1), counts_tc.sum(axis=0)
    weight_c = true_c / len(truth_n)
    recall = float(right_c.sum() / len(truth_n))
    return {
        "accuracy": recall,
        "f1": float((weight_c * 2 * right_c / np.maximum(true_c + said_c, 1)).sum()),
        "precision": float((weight_c * right_c / np.maximum(said_c, 1)).sum()),
        "recall": recall,
    }


def _auroc(score_n: np.ndarray, positive_n: np.ndarray) -> float:
    """Share of (positive, negative) cells in the right order, ties counting half (Mann–Whitney)."""
    n = int(positive_n.sum())
    above = stats.rankdata(score_n)[positive_n].sum() - n * (n + 1) / 2
    return float(above / (n * (len(positive_n) - n)))


def placements(score_n: np.ndarray, positive_n: np.ndarray) -> np.ndarray:
    """(cells,) share of the other side's cells that a cell is on the right side of, ties half.

    Their mean over the positive cells is the AUROC, and that over the negative ones too (DeLong et
    al. 1988): what single cells, and so single donors of either side, contribute to it.
    """
    placed_n = np.empty(len(score_n))
    for side_n, sign in ((positive_n, 1), (~positive_n, -1)):
        others = np.sort(sign * score_n[~side_n])
        mine = sign * score_n[side_n]
        passed = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        placed_n[side_n] = passed / (2 * len(others))
    return placed_n


def contrast_accuracy(
    predictions: Predictions, truth_n: np.ndarray, input_label: str, baseline_label: str
) -> float:
    """Balanced accuracy of choosing between the two labels alone, over cells of both."""
    u, v = predictions.labels.index(input_label), predictions.labels.index(baseline_label)
    says_u = predictions.probabilities_nc[:, u] > predictions.probabilities_nc[:, v]
    return float((says_u[truth_n == u].mean() + (~says_u[truth_n == v]).mean()) / 2)
