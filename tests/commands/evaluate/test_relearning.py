"""Labels that mean nothing: what is permuted, what is not, and where it is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gradgene.checkpoints import PretrainedModel
from gradgene.commands.evaluate import relearning
from gradgene.commands.evaluate.relearning import check_relearning, with_permuted
from gradgene.errors import ConfigError
from gradgene.evaluation.sanity import Sanity
from tests.planted import make_cells


def test_labels_are_exchanged_among_the_rows_alone() -> None:
    cells, rows = make_cells(), np.arange(5, 45)
    found = with_permuted(cells, "disease", rows, seed=3)
    before, after = (c.obs["disease"].astype(str).to_numpy() for c in (cells, found))
    assert sorted(before[rows]) == sorted(after[rows]) and (before[rows] != after[rows]).any()
    outside = np.setdiff1d(np.arange(len(cells)), rows)
    assert (before[outside] == after[outside]).all()
    assert found.obs.drop(columns="disease").equals(cells.obs.drop(columns="disease"))
    assert found.obs["disease"].dtype == cells.obs["disease"].dtype
    again = with_permuted(cells, "disease", rows, seed=3).obs["disease"].astype(str)
    assert (again.to_numpy() == after).all()
    other = with_permuted(cells, "disease", rows, seed=4).obs["disease"].astype(str)
    assert (other.to_numpy() != after).any()


@pytest.mark.parametrize(
    ("path", "pretrained", "n_processes", "said"),
    [
        ("runs/other", False, 1, "train the model in this study"),
        (None, True, 1, "may have met the labels"),
        (None, False, 2, "begin a study in another folder with trainer=cpu"),
    ],
)
def test_where_it_cannot_be_it_is_refused(
    path: str | None,
    pretrained: bool,
    n_processes: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = PretrainedModel("runs/atlas") if pretrained else None
    monkeypatch.setattr(relearning, "build", lambda node: model)
    cfg = SimpleNamespace(checkpoint=SimpleNamespace(path=path), model=None)
    work = SimpleNamespace(cfg=cfg, n_processes=n_processes)
    check_relearning(work, Sanity())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=said):
        check_relearning(work, Sanity(n_retrained=1))  # type: ignore[arg-type]


def test_a_negative_number_of_models_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_retrained"):
        Sanity(n_retrained=-1)
