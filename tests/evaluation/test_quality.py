"""The quality of a model agrees with scikit-learn, labels that never occur included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from gradgene.evaluation import prediction_quality
from gradgene.pruning import Predictions

LABELS = ("alpha", "beta", "delta", "epsilon", "gamma")


@pytest.mark.parametrize("n_labels", [2, 3, 5])
@pytest.mark.parametrize("n_occurring", [2, 3, 5])
def test_agrees_with_scikit_learn(n_labels: int, n_occurring: int) -> None:
    rng = np.random.default_rng(n_labels)
    truth_n = rng.choice(min(n_labels, n_occurring), 300)
    scores = rng.gumbel(size=(300, n_labels))
    scores[np.arange(300), truth_n] += 0.7
    p_nc = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = Predictions(p_nc.astype(np.float32), LABELS[:n_labels])
    quality = prediction_quality(found, truth_n, "beta", "alpha")
    said, occurring = p_nc.argmax(axis=1), np.unique(truth_n)
    assert quality["accuracy"] == pytest.approx(metrics.accuracy_score(truth_n, said), abs=1e-6)
    recall = metrics.recall_score(truth_n, said, labels=occurring, average="macro")
    assert quality["balanced_accuracy"] == pytest.approx(recall, abs=1e-6)
    assert quality["macro_f1"] == pytest.approx(
        metrics.f1_score(truth_n, said, labels=occurring, average="macro"), abs=1e-6
    )
    two = truth_n < 2
    assert quality["contrast_balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(truth_n[two], p_nc[two, :2].argmax(axis=1)), abs=1e-6
    )
    assert quality["n_cells"] == 300
    if n_labels <= n_occurring:
        expected = metrics.balanced_accuracy_score(truth_n, said)
        assert quality["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_a_perfect_model_of_few_labels_is_perfect() -> None:
    truth_n = np.array([0, 3, 3, 0, 0])
    found = Predictions(np.eye(5, dtype=np.float32)[truth_n], LABELS)
    quality = prediction_quality(found, truth_n, "alpha", "epsilon")
    names = ("accuracy", "balanced_accuracy", "macro_f1", "contrast_balanced_accuracy")
    assert [quality[name] for name in names] == [1, 1, 1, 1]
