"""Are the probabilities honest? One temperature, fitted on validation cells."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from gradgene.errors import ConfigError
from gradgene.pruning import Predictions

__all__ = ["Calibration", "fit_temperature", "negative_log_likelihood", "tempered"]

#: Temperatures that are looked at; the ends are reached where the likelihood has no maximum, as
#: for validation cells that are all named rightly.
COLDEST, HOTTEST = 0.05, 20.0
#: float32 probabilities below this are nothing but rounding.
SMALLEST = 1e-30


@dataclass(frozen=True)
class Calibration:
    """The temperature T of softmax(logits / T), and what it does to the cells it was fitted on.

    Attributes
    ----------
    temperature
        T; above 1 the model was too sure of itself. It changes no label, no logit and no
        attribution: it is for whoever reads probabilities.
    n_cells
        Validation cells it was fitted on.
    nll_before, nll_after
        Their mean negative log likelihood in nats, at temperature 1 and at T.
    """

    temperature: float
    n_cells: int
    nll_before: float
    nll_after: float

    @classmethod
    def of(cls, predictions: Predictions, truth_n: np.ndarray) -> Calibration:
        """Fit the temperature to validation cells; raises `ConfigError` where there are none."""
        if not len(truth_n):
            raise ConfigError("no cell to calibrate on", where="data.validation")
        temperature = fit_temperature(predictions.probabilities_nc, truth_n)
        after = tempered(predictions, temperature)
        return cls(
            temperature=temperature,
            n_cells=len(truth_n),
            nll_before=negative_log_likelihood(predictions, truth_n),
            nll_after=negative_log_likelihood(after, truth_n),
        )

    def to_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        return asdict(self)


def fit_temperature(probabilities_nc: np.ndarray, truth_n: np.ndarray) -> float:
    """The temperature of least mean negative log likelihood, in [0.05, 20].

    Parameters
    ----------
    probabilities_nc
        (cells, labels) probabilities at temperature 1.
    truth_n
        (cells,) index of each cell's true label.
    """
    # The likelihood is concave in 1/T, so its derivative crosses zero once: halve the interval.
    z_nc = _logits(probabilities_nc)
    true_n = z_nc[np.arange(len(z_nc)), truth_n]

    def excess(inverse: float) -> float:
        p_nc = _softmax(inverse * z_nc)
        return float(((p_nc * z_nc).sum(axis=1) - true_n).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if excess(low) >= 0:
        return HOTTEST
    if excess(high) <= 0:
        return COLDEST
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return 2 / (low + high)


def tempered(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions (cells, labels) with logits divided by `temperature`."""
    p_nc = _softmax(_logits(predictions.probabilities_nc) / temperature)
    return Predictions(p_nc.astype(predictions.probabilities_nc.dtype), predictions.labels)


def negative_log_likelihood(predictions: Predictions, truth_n: np.ndarray) -> float:
    """Mean of -log p of the true labels `truth_n` (cells,), in nats."""
    z_nc = _logits(predictions.probabilities_nc)
    return float(-z_nc[np.arange(len(z_nc)), truth_n].mean())


def _logits(probabilities_nc: np.ndarray) -> np.ndarray:
    """Log probabilities: the logits, less a constant of each cell that softmax does not see."""
    logits_nc: np.ndarray = np.log(np.maximum(probabilities_nc.astype(np.float64), SMALLEST))
    return logits_nc


def _softmax(logits_nc: np.ndarray) -> np.ndarray:
    exp_nc = np.exp(logits_nc - logits_nc.max(axis=1, keepdims=True))
    shares_nc: np.ndarray = exp_nc / exp_nc.sum(axis=1, keepdims=True)
    return shares_nc
