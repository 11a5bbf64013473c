"""Sanity of a sample of pairs of which some have no scores: how many pairs a control rests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradgene.attribution import AttributionSettings, DeepLift
from gradgene.commands.evaluate import sanity as evaluate_sanity
from gradgene.commands.evaluate.sanity import measure_sanity
from gradgene.evaluation import Sanity
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.evaluation.sanity import Control
from gradgene.pairs import PairSampler
from tests.planted import make_cells

N_GENES = 8


@pytest.fixture
def work(tmp_path: Path) -> Any:
    leaves = {
        "ranking": {"_target_": "gradgene.pruning.RankingChoice"},
        "baseline": {"_target_": "gradgene.pairs.CellStateBaseline"},
    }
    metrics = dict[str, float]()
    return SimpleNamespace(
        folder=tmp_path,
        cfg=OmegaConf.create(leaves),
        settings=AttributionSettings(DeepLift()),
        console=Console(quiet=True),
        metrics=metrics,
        add_metrics=metrics.update,
    )


@pytest.mark.parametrize(
    ("pairs_of_input", "smaller"), [([1, 1, 7], {1, 2}), ([5, 2], {2}), ([3], {0})]
)
def test_pairs_that_count(
    monkeypatch: pytest.MonkeyPatch, work: Any, pairs_of_input: list[int], smaller: set[int]
) -> None:
    """Two pairs more have no scores. Whole input cells are in one half: one of three, one of two,
    and one alone has no other half.
    """
    kept = np.arange(sum(pairs_of_input))
    sampler = PairSampler("disease", "case", "control", (), max_pairs=len(kept) + 2)
    plan = sampler.sample(make_cells(200))
    rows = [*np.repeat(np.arange(len(pairs_of_input)), pairs_of_input), 100, 101]
    plan.table["input_row"] = rows
    scores_pg = np.random.default_rng(0).normal(size=(len(kept), N_GENES))
    scores = SampledScores(scores_pg, np.ones(N_GENES), kept)

    def models(sample: Any) -> Iterator[Control]:
        yield Control("randomisation", "head", scores_pg[0], len(kept), 1)

    monkeypatch.setattr(evaluate_sanity, "held_out_pairs", lambda work: (None, plan))
    monkeypatch.setattr(evaluate_sanity, "_explain", lambda *given: (scores, float("nan")))
    monkeypatch.setattr(evaluate_sanity, "_random_models", models)
    for check in ("_shuffled_genes", "_permuted_labels"):
        monkeypatch.setattr(evaluate_sanity, check, lambda sample: iter(()))
    measure_sanity(work, Sanity())
    table = pd.read_parquet(work.folder / "evaluation" / "sanity.parquet").set_index("step")
    assert table.loc["trained", "n_pairs"] == len(kept) < len(plan)
    assert table.loc["two halves", "n_pairs"] in smaller
    assert bool(table.loc["two halves", "note"]) == (smaller == {0})
