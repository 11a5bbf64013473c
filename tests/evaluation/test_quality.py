"""The quality of a model agrees with scikit-learn, labels that never occur included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from gradgene.evaluation import confusion, prediction_quality, quality_by_donor
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


@pytest.mark.parametrize("n_labels", [2, 3, 5])
def test_auroc_agrees_with_scikit_learn(n_labels: int) -> None:
    found, truth_n = drawn(n_labels)
    quality = prediction_quality(found, truth_n, "beta", "alpha")
    p_nc = found.probabilities_nc.astype(float)
    p_nc /= p_nc.sum(axis=1, keepdims=True)
    if n_labels == 2:
        expected = metrics.roc_auc_score(truth_n == 1, p_nc[:, 1])
    else:
        expected = metrics.roc_auc_score(truth_n, p_nc, multi_class="ovr", average="macro")
    assert quality["auroc"] == pytest.approx(expected, abs=1e-6)
    two = truth_n < 2
    share_n = p_nc[two, 1] / p_nc[two, :2].sum(axis=1)
    expected = metrics.roc_auc_score(truth_n[two], share_n)
    assert quality["contrast_auroc"] == pytest.approx(expected, abs=1e-6)


def test_auroc_sees_differences_beside_certainty() -> None:
    p_u = 1 - np.array([1e-12, 1e-11, 1e-10, 1e-9])  # all 1 in float32, but their rests differ
    p_nc = np.stack([p_u, 1 - p_u], axis=1).astype(np.float32)
    quality = prediction_quality(Predictions(p_nc, ("a", "b")), np.array([0, 0, 1, 1]), "a", "b")
    assert quality["auroc"] == quality["contrast_auroc"] == 1


def test_calibration_error_by_hand() -> None:
    # Ten cells named with 0.8 of which six are right, ten with 0.6 of which all are.
    p_n = np.repeat([0.8, 0.6], 10)
    found = Predictions(np.stack([p_n, 1 - p_n], axis=1).astype(np.float32), ("a", "b"))
    truth_n = np.array([0] * 6 + [1] * 4 + [0] * 10)
    quality = prediction_quality(found, truth_n, "a", "b")
    assert quality["ece"] == pytest.approx((0.2 + 0.4) / 2, abs=1e-6)


def drawn(n_labels: int, n: int = 300) -> tuple[Predictions, np.ndarray]:
    """Predictions that know something of random labels."""
    rng = np.random.default_rng(n_labels)
    truth_n = rng.choice(n_labels, n)
    scores = rng.gumbel(size=(n, n_labels))
    scores[np.arange(n), truth_n] += 0.7
    p_nc = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return Predictions(p_nc.astype(np.float32), LABELS[:n_labels]), truth_n


def test_each_donor_is_judged_alone() -> None:
    found, truth_n = drawn(3)
    donors_n = np.resize(["d2", "d1"], 300)
    table = quality_by_donor(found, truth_n, donors_n, "alpha", "beta").set_index("donor")
    assert list(table.index) == ["d1", "d2"]
    for donor, row in table.iterrows():
        mine = np.flatnonzero(donors_n == donor)
        part = Predictions(found.probabilities_nc[mine], found.labels)
        alone = prediction_quality(part, truth_n[mine], "alpha", "beta")
        assert row[list(alone)].to_dict() == pytest.approx(alone)
        counts = [row[f"n_cells/{label}"] for label in found.labels]
        assert counts == np.bincount(truth_n[mine]).tolist() and row["n_cells"] == sum(counts)


def test_what_is_undefined_for_a_donor_is_null() -> None:
    found, truth_n = drawn(3)
    donors_n = np.where(truth_n == 1, "d1", "d0")
    table = quality_by_donor(found, truth_n, donors_n, "alpha", "beta").set_index("donor")
    null = ["auroc", "contrast_auroc", "contrast_balanced_accuracy"]
    assert table.loc["d1", null].isna().all()
    assert table.loc["d0", null[1:]].isna().all() and 0 < float(table["auroc"]["d0"]) < 1
    others = [column for column in table.columns if column not in null]
    assert table[others].notna().all(axis=None)
    assert table.loc["d1", "n_cells/alpha"] == 0


def test_confusion_counts_every_combination() -> None:
    found, truth_n = drawn(3)
    table = confusion(found, truth_n)
    said_n = found.probabilities_nc.argmax(axis=1)
    expected = metrics.confusion_matrix(truth_n, said_n)
    wide = table.pivot(index="truth", columns="predicted", values="n_cells")
    assert wide.to_numpy().tolist() == expected.tolist()  # labels are in alphabetical order
    assert list(table.columns) == ["truth", "predicted", "n_cells"] and len(table) == 9
