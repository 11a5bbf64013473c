"""The temperature is the one that made the labels, and changes nothing but confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from gradgene.errors import ConfigError
from gradgene.evaluation import (
    Calibration,
    prediction_quality,
    tempered,
)
from gradgene.evaluation.calibration import fit_temperature, negative_log_likelihood
from gradgene.pruning import Predictions

LABELS = ("alpha", "beta", "gamma")


def softmax(logits_nc: np.ndarray) -> np.ndarray:
    """Probabilities (cells, labels)."""
    exp_nc = np.exp(logits_nc - logits_nc.max(axis=1, keepdims=True))
    shares_nc: np.ndarray = exp_nc / exp_nc.sum(axis=1, keepdims=True)
    return shares_nc


def overconfident(factor: float, n: int = 20_000) -> tuple[Predictions, np.ndarray]:
    """Cells whose labels are drawn from softmax(z), said to be softmax(factor z)."""
    rng = np.random.default_rng(0)
    z_nc = rng.normal(size=(n, 3))
    p_nc = softmax(z_nc)
    truth_n = (rng.random((n, 1)) > p_nc.cumsum(axis=1)).sum(axis=1)
    return Predictions(softmax(factor * z_nc).astype(np.float32), LABELS), truth_n


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_finds_the_temperature_that_made_the_labels(factor: float) -> None:
    found, truth_n = overconfident(factor)
    temperature = fit_temperature(found.probabilities_nc, truth_n)
    assert temperature == pytest.approx(factor, rel=0.05)
    assert fit_temperature(tempered(found, temperature).probabilities_nc, truth_n) == (
        pytest.approx(1, abs=1e-3)
    )


@given(seed=st.integers(0, 1000), n=st.integers(3, 60))
def test_is_the_maximum_of_the_likelihood(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    found = Predictions(softmax(rng.normal(size=(n, 3)) * 2), LABELS)
    truth_n = rng.integers(0, 3, n)
    temperature = fit_temperature(found.probabilities_nc, truth_n)

    def loss(at: float) -> float:
        return negative_log_likelihood(tempered(found, at), truth_n)

    best = minimize_scalar(lambda log_t: loss(np.exp(log_t)), bounds=np.log([0.05, 20]))
    assert loss(temperature) <= best.fun + 1e-9


def test_calibration_lowers_the_error_and_keeps_the_labels() -> None:
    found, truth_n = overconfident(3.0)
    half = len(truth_n) // 2
    fitted = Calibration.of(Predictions(found.probabilities_nc[:half], LABELS), truth_n[:half])
    rest = Predictions(found.probabilities_nc[half:], LABELS)
    cool = tempered(rest, fitted.temperature)
    before, after = (prediction_quality(p, truth_n[half:], "alpha", "beta") for p in (rest, cool))
    assert before["ece"] > 0.1 > 0.03 > after["ece"]
    for name in ("accuracy", "macro_f1", "contrast_balanced_accuracy"):
        assert before[name] == after[name]
    assert fitted.nll_after < fitted.nll_before
    assert fitted.n_cells == half
    assert cool.probabilities_nc.dtype == np.float32


def test_likelihood_by_hand() -> None:
    found = Predictions(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]), LABELS)
    expected = -(np.log(0.25) + np.log(0.8)) / 2
    assert negative_log_likelihood(found, np.array([1, 2])) == pytest.approx(expected)
    squared = tempered(found, 0.5).probabilities_nc[0]
    np.testing.assert_allclose(squared, np.array([4, 1, 1]) / 6)


def test_without_a_maximum_the_end_is_named() -> None:
    right = softmax(np.eye(3) * 4)
    assert fit_temperature(right, np.arange(3)) == 0.05
    assert fit_temperature(right, np.array([1, 2, 0])) == 20
    certain = np.eye(3, dtype=np.float32)  # log 0 is floored
    assert fit_temperature(certain, np.array([0, 1, 0])) == 20


def test_no_cells() -> None:
    with pytest.raises(ConfigError, match=r"data\.validation"):
        Calibration.of(Predictions(np.zeros((0, 3)), LABELS), np.zeros(0, int))
