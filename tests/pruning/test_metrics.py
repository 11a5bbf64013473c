"""Metrics of a pruned panel agree with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from gradgene.pruning import Predictions, arm_metrics, contrast_accuracy
from gradgene.pruning.metrics import placements

LABELS = ("alpha", "beta", "delta", "epsilon", "gamma")


def random_predictions(
    n_labels: int, n: int = 200, seed: int = 0
) -> tuple[Predictions, np.ndarray]:
    """Random probabilities that lean to the truth, and the truth."""
    rng = np.random.default_rng(seed)
    truth_n = rng.integers(0, n_labels, n)
    scores = rng.gumbel(size=(n, n_labels))
    scores[np.arange(n), truth_n] += 1
    p_nc = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(p_nc.astype(np.float32), LABELS[:n_labels]), truth_n


@pytest.mark.parametrize("n_labels", [2, 5])
@pytest.mark.parametrize("arms", [("alpha", "beta"), ("beta", "alpha")])
def test_arms_agree_with_scikit_learn(n_labels: int, arms: tuple[str, str]) -> None:
    found, truth_n = random_predictions(n_labels)
    values = arm_metrics(found, truth_n, *arms)
    u, v = (found.labels.index(label) for label in arms)
    for arm, wanted in (("input", [u]), ("baseline", [v]), ("both", [u, v])):
        rows = np.isin(truth_n, wanted)
        truth, said = truth_n[rows], found.probabilities_nc[rows].argmax(axis=1)
        weighted = {"average": "weighted", "zero_division": 0}
        expected = {
            "accuracy": metrics.accuracy_score(truth, said),
            "f1": metrics.f1_score(truth, said, **weighted),
            "precision": metrics.precision_score(truth, said, **weighted),
            "recall": metrics.recall_score(truth, said, **weighted),
            "probability": found.probabilities_nc[rows, truth].mean(),
        }
        for name, value in expected.items():
            assert values[arm, name] == pytest.approx(value, abs=1e-5), (arm, name)
    of_two = np.isin(truth_n, [u, v])
    truth, p = truth_n[of_two], found.probabilities_nc[of_two]
    recall = metrics.recall_score(truth, p.argmax(axis=1), labels=[u, v], average="macro")
    assert values["both", "balanced_accuracy"] == pytest.approx(recall, abs=1e-5)
    assert values["both", "auroc"] == pytest.approx(
        metrics.roc_auc_score(truth == u, p[:, u]), abs=1e-5
    )
    two = {arm for arm, metric in values if metric in ("balanced_accuracy", "auroc")}
    assert two == {"both"}


def test_the_drop_is_the_mean_loss_of_the_true_labels_probability() -> None:
    p_nc = np.array([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32)
    found = Predictions(p_nc, LABELS[:2])
    values = arm_metrics(found, np.array([0, 0, 1]), "alpha", "beta", np.array([0.9, 0.8, 0.3]))
    drops = {arm: value for (arm, metric), value in values.items() if metric == "probability_drop"}
    assert drops == pytest.approx({"input": 0.4, "baseline": -0.1, "both": 0.7 / 3}, abs=1e-6)


def test_ties_count_half_in_auroc() -> None:
    p_nc = np.full((4, 2), 0.5, dtype=np.float32)
    values = arm_metrics(Predictions(p_nc, LABELS[:2]), np.array([0, 0, 1, 1]), "alpha", "beta")
    assert values["both", "auroc"] == 0.5


def test_two_labels_give_sklearns_balanced_accuracy() -> None:
    found, truth_n = random_predictions(2, seed=3)
    said = found.probabilities_nc.argmax(axis=1)
    expected = metrics.balanced_accuracy_score(truth_n, said)
    values = arm_metrics(found, truth_n, "alpha", "beta")
    assert values["both", "balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert contrast_accuracy(found, truth_n, "alpha", "beta") == pytest.approx(expected, abs=1e-6)


def test_contrast_accuracy_looks_at_two_labels_only() -> None:
    found, truth_n = random_predictions(5, seed=4)
    rows = np.isin(truth_n, [1, 3])
    said = np.array([1, 3])[found.probabilities_nc[rows][:, [1, 3]].argmax(axis=1)]
    expected = metrics.balanced_accuracy_score(truth_n[rows], said)
    assert contrast_accuracy(found, truth_n, "beta", "epsilon") == pytest.approx(expected, abs=1e-6)


def test_an_arm_without_cells_has_no_metrics() -> None:
    found, truth_n = random_predictions(5)
    rows = truth_n == 0
    only = Predictions(found.probabilities_nc[rows], found.labels)
    values = arm_metrics(only, truth_n[rows], "alpha", "beta")
    assert {arm for arm, _ in values} == {"input", "both"}
    assert {m for _, m in values} == {"accuracy", "f1", "precision", "recall", "probability"}
    # Of one label they are other quantities than of two.
    assert ("input", "f1") in values and not {("both", "f1"), ("both", "precision")} & set(values)
    nobody = Predictions(found.probabilities_nc[:0], found.labels)
    assert arm_metrics(nobody, truth_n[:0], "alpha", "beta") == {}


def test_placements_of_either_side_average_to_the_auroc() -> None:
    """By hand, with a tie: 0.4 is above 0.1, level with 0.4 and below 0.7."""
    score_n, positive_n = np.array([0.4, 0.9, 0.1, 0.4, 0.7]), np.array([1, 1, 0, 0, 0], dtype=bool)
    placed_n = placements(score_n, positive_n)
    assert placed_n == pytest.approx([0.5, 1, 1, 0.75, 0.5])
    auroc = metrics.roc_auc_score(positive_n, score_n)
    assert placed_n[positive_n].mean() == pytest.approx(auroc)
    assert placed_n[~positive_n].mean() == pytest.approx(auroc)
