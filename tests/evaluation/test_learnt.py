"""The interaction in a model's margin: exact for a stand-in that computes one by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gradgene.cells import Cells
from gradgene.errors import CellsError
from gradgene.evaluation import learnt
from gradgene.evaluation.learnt import learnt_pairs
from gradgene.pruning import Predictions
from gradgene.tokens import TokenBatch
from tests.planted import make_cells, make_model, make_tokenizer

PAIR = ("g20", "g30")
CONTRAST = ("disease", "case", "control")
Margin = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def cells() -> Cells:
    raw = make_cells(400)
    return make_tokenizer(raw).prepare(raw)


def states_of(cells: Cells) -> np.ndarray:
    """(cells, 2) whether each gene of the pair is seen at all."""
    return cells.matrix_ng[:, [cells.genes.index(g) for g in PAIR]].toarray() > 0


def found_by(
    margin: Margin, cells: Cells, monkeypatch: pytest.MonkeyPatch, bayes: float = 3.0, **more: Any
) -> pd.Series:
    """`learnt_pairs` of a model whose margin is this function of what tokens it is shown."""
    tokenizer = make_tokenizer(make_cells(400))

    def predict(_: object, tokens: TokenBatch, category: str, batch_tokens: int) -> Predictions:
        assert category == "disease"
        seen = [(tokens.gene_ids_nt == cells.genes.index(g)).any(1).numpy() for g in PAIR]
        other = (tokens.gene_ids_nt >= 0).sum(1).numpy() - seen[0] - seen[1]
        odds_n = np.exp(margin(seen[0].astype(float), seen[1].astype(float), other))
        case_n = odds_n / (1 + odds_n)
        return Predictions(np.stack([1 - case_n, case_n], axis=1), ("control", "case"))

    monkeypatch.setattr(learnt, "predict", predict)
    state_n2 = states_of(cells)
    log_odds_n1 = bayes * (state_n2.sum(axis=1, keepdims=True) == 1)
    model: Any = SimpleNamespace()
    table = learnt_pairs(model, tokenizer, cells, state_n2, log_odds_n1, [PAIR], CONTRAST, **more)
    return table.iloc[0]


def test_an_exclusive_or_is_found_whole(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    row = found_by(
        lambda a, b, other: 2 * (a != b) + 0.5 * a - b + 0.03 * other, cells, monkeypatch
    )
    assert row["interaction"] == pytest.approx(2, abs=1e-9)
    assert row["bayes_interaction"] == pytest.approx(3)
    assert row["share"] == pytest.approx(2 / 3) and row["learnt"]
    assert row["pair"] == "g20+g30"


def test_additive_genes_do_not_interact(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    row = found_by(lambda a, b, other: 2 * a - 3 * b + 0.1 * other, cells, monkeypatch)
    assert row["interaction"] == pytest.approx(0, abs=1e-9) and not row["learnt"]


@pytest.mark.parametrize(("strength", "known"), [(1.6, True), (1.4, False), (-3.0, False)])
def test_half_of_bayes_is_learnt(
    strength: float, known: bool, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = found_by(lambda a, b, _: strength * (a != b), cells, monkeypatch)
    assert row["learnt"] == known


def test_the_accuracy_of_the_pair_alone(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    row = found_by(lambda a, b, _: a, cells, monkeypatch, n_cells=10)
    case_n = (cells.obs["disease"] == "case").to_numpy()
    assert row["pair_accuracy"] == np.mean((states_of(cells).sum(axis=1) == 1) == case_n)


def test_a_model_of_random_weights_has_learnt_nothing(cells: Cells) -> None:
    tokenizer = make_tokenizer(make_cells(400))
    model = make_model(tokenizer.vocabulary).float()
    log_odds_n1 = 3.0 * (states_of(cells).sum(axis=1, keepdims=True) == 1)
    given = (model, tokenizer, cells, states_of(cells), log_odds_n1, [PAIR], CONTRAST)
    row, again = (learnt_pairs(*given, n_cells=60, seed=1).iloc[0] for _ in range(2))
    assert abs(row["share"]) < 0.5 and not row["learnt"]
    assert row["interaction"] == again["interaction"] != 0


def test_a_state_that_no_cell_is_in_is_refused(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_n = states_of(cells).all(axis=1)
    with pytest.raises(CellsError, match="four states of g20, g30"):
        found_by(lambda a, b, _: a, cells.take(np.flatnonzero(~both_n)), monkeypatch)
