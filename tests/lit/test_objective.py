"""The loss weighs labels as it says."""

from __future__ import annotations

import pytest
import torch

from gradgene.errors import ConfigError
from gradgene.lit import MaskedTarget


def test_label_smoothing_by_hand() -> None:
    logits_nc, truth_n = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]]), torch.tensor([0, 2])
    log_p = logits_nc - logits_nc.exp().sum(dim=1, keepdim=True).log()
    hard = -(log_p[0, 0] + log_p[1, 2]) / 2
    soft = -log_p.mean(dim=1).mean()
    assert float(MaskedTarget().loss(logits_nc, truth_n)) == pytest.approx(float(hard))
    smoothed = MaskedTarget(label_smoothing=0.2).loss(logits_nc, truth_n)
    assert float(smoothed) == pytest.approx(float(0.8 * hard + 0.2 * soft))


def test_balanced_weights_by_hand() -> None:
    objective = MaskedTarget(class_weights="balanced")
    weights_c = objective.weights([6, 0, 2])
    assert weights_c is not None
    # Two labels occur in eight cells: four cells a label would be even.
    assert weights_c.tolist() == pytest.approx([4 / 6, 1, 4 / 2])
    logits_nc, truth_n = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]]), torch.tensor([0, 2])
    log_p = logits_nc.log_softmax(dim=1)
    expected = -(4 / 6 * log_p[0, 0] + 2 * log_p[1, 2]) / (4 / 6 + 2)
    found = objective.loss(logits_nc, truth_n, weights_c)
    assert float(found) == pytest.approx(float(expected))


def test_balanced_weights_make_labels_count_the_same() -> None:
    """Every label's cells together weigh the same, and all together as many as there are."""
    weights_c = MaskedTarget(class_weights="balanced").weights([5, 20, 75])
    assert weights_c is not None
    mass_c = weights_c * torch.tensor([5, 20, 75])
    assert mass_c.tolist() == pytest.approx([100 / 3] * 3)


def test_equal_weights_are_none() -> None:
    assert MaskedTarget().weights([1, 2]) is None


@pytest.mark.parametrize(
    ("key", "value"), [("label_smoothing", 1.0), ("label_smoothing", -0.1), ("class_weights", "x")]
)
def test_nonsense_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"objective.{key}"):
        MaskedTarget(**{key: value})  # type: ignore[arg-type]
