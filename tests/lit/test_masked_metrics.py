"""Metrics of masked tokens against definitions and sklearn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from gradgene.lit.masked_metrics import MaskedMetrics, accuracy, macro_f1, within_one
from gradgene.tokens import Vocabulary
from tests.planted import BIN_EDGES, make_cells


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.from_cells(make_cells(60, 20), BIN_EDGES)


def counts(true: np.ndarray, said: np.ndarray, n: int) -> torch.Tensor:
    return torch.from_numpy(confusion_matrix(true, said, labels=range(n)))


def test_pure_functions_agree_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 5, 300), rng.integers(0, 7, 300)  # two labels are only predicted
    counts_cc = counts(true, said, 9)  # and two never occur
    assert float(accuracy(counts_cc)) == pytest.approx(accuracy_score(true, said))
    assert float(macro_f1(counts_cc)) == pytest.approx(f1_score(true, said, average="macro"))
    assert float(within_one(counts_cc)) == pytest.approx((abs(true - said) <= 1).mean())


def asked(vocabulary: Vocabulary, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits, and random labels and bins to name."""
    rng = torch.Generator().manual_seed(seed)
    first = 4  # special tokens are never asked for
    labels_m = torch.randint(first, vocabulary.n_values, (n,), generator=rng)
    return torch.randn(n, vocabulary.n_values, generator=rng), labels_m


def test_each_category_is_judged_among_its_labels(vocabulary: Vocabulary) -> None:
    logits_mv, labels_m = asked(vocabulary, 500, 1)
    metrics = MaskedMetrics(vocabulary)
    metrics.update(logits_mv, labels_m, torch.tensor(250.0), torch.tensor(500.0))
    found = metrics.compute()
    assert float(found["loss"]) == 0.5
    first = vocabulary.bin_offset
    groups = {c: list(vocabulary.label_ids(c)) for c in vocabulary.phenotypes}
    groups["bins"] = list(range(first, first + len(BIN_EDGES) + 1))
    assert {k.partition("/")[0] for k in found} == {*groups, "loss"}
    for name, ids in groups.items():
        mine = torch.isin(labels_m, torch.tensor(ids))
        said = torch.tensor(ids)[logits_mv[mine][:, ids].argmax(dim=1)]
        assert float(found[f"{name}/accuracy"]) == pytest.approx(
            accuracy_score(labels_m[mine], said)
        )
        assert float(found[f"{name}/macro_f1"]) == pytest.approx(
            f1_score(labels_m[mine], said, average="macro")
        )
        if name == "bins":
            near = ((said - labels_m[mine]).abs() <= 1).float().mean()
            assert float(found["bins/within_one"]) == pytest.approx(float(near))


def test_batches_add_up_and_reset_forgets(vocabulary: Vocabulary) -> None:
    logits_mv, labels_m = asked(vocabulary, 300, 2)
    whole, parts = MaskedMetrics(vocabulary), MaskedMetrics(vocabulary)
    whole.update(logits_mv, labels_m, torch.tensor(30.0), torch.tensor(300.0))
    parts.update(*asked(vocabulary, 50, 3), torch.tensor(1.0), torch.tensor(2.0))
    parts.reset()
    for rows in (slice(0, 10), slice(10, 10), slice(10, 300)):  # one batch has nothing masked
        n = torch.tensor(float(len(labels_m[rows])))
        parts.update(logits_mv[rows], labels_m[rows], 30.0 * n / 300, n)
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value)


def test_guessing_has_the_perplexity_of_the_number_of_bins(vocabulary: Vocabulary) -> None:
    first, n_bins = vocabulary.bin_offset, len(BIN_EDGES) + 1
    labels_m = torch.arange(first, first + n_bins)
    metrics = MaskedMetrics(vocabulary)
    zero = torch.tensor(0.0)
    metrics.update(torch.zeros(n_bins, vocabulary.n_values), labels_m, zero, zero)
    found = metrics.compute()
    assert float(found["bins/perplexity"]) == pytest.approx(n_bins)
    assert not any("disease" in name for name in found)  # never asked for, so not measured
