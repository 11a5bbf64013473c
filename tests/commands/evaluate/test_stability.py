"""Stability of few or odd pairs: what is written, what is said and what is left out."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradgene.attribution import AttributionSettings, DeepLift, IntegratedGradients
from gradgene.commands.evaluate import stability as evaluate_stability
from gradgene.commands.evaluate.stability import measure_stability
from gradgene.evaluation import Stability
from gradgene.evaluation.sampled_scores import SampledScores
from gradgene.pairs import PairPlan, PairSampler
from tests.planted import make_cells

N_GENES = 12
SETTINGS = Stability(n_draws=3, top_k=3)


def run_of(folder: Path, rankings: dict[str, np.ndarray]) -> Any:
    """A run with these rankings of its held-out pairs, of two methods, and no donors."""
    parts = [
        pd.DataFrame({"ranking": name, "gene": [f"g{k}" for k in range(N_GENES)], "score": score_g})
        for name, score_g in rankings.items()
    ]
    (folder / "attributions").mkdir()
    pd.concat(parts).to_parquet(folder / "attributions" / "rankings.parquet")
    settings, metrics = AttributionSettings(DeepLift()), dict[str, float]()
    leaves = {
        "ranking": {"_target_": "gradgene.pruning.RankingChoice"},
        "baseline": {"_target_": "gradgene.pairs.CellStateBaseline"},
    }
    return SimpleNamespace(
        folder=folder,
        cfg=OmegaConf.create(leaves),
        facts=SimpleNamespace(seed=0),
        loaded=SimpleNamespace(model=None),
        settings=settings,
        attributions=[settings, AttributionSettings(IntegratedGradients())],
        console=Console(file=io.StringIO(), width=200),
        metrics=metrics,
        add_metrics=metrics.update,
    )


@pytest.fixture
def work(tmp_path: Path) -> Any:
    """Two methods that agree in part."""
    score_g = np.arange(N_GENES, dtype=float)
    return run_of(
        tmp_path, {"deeplift/forward": score_g, "integrated_gradients/forward": np.roll(score_g, 1)}
    )


def pairs_of(n: int) -> PairPlan:
    """`n` pairs, each of another input cell."""
    sampler = PairSampler("disease", "case", "control", ("cell_type",), max_pairs=n)
    plan = sampler.sample(make_cells(200))
    assert len(set(plan.input_rows.tolist())) == len(plan) == n
    return plan


def give(monkeypatch: pytest.MonkeyPatch, scores_pg: np.ndarray) -> None:
    """As many held-out pairs, which the method scores so."""
    plan = pairs_of(len(scores_pg))
    scores = SampledScores(scores_pg, np.ones(N_GENES), np.arange(len(plan)))
    monkeypatch.setattr(evaluate_stability, "held_out_pairs", lambda work: (None, plan))
    monkeypatch.setattr(evaluate_stability, "score_sample", lambda *given: scores)


def noisy(n: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    return np.arange(N_GENES) + 0.1 * draw.normal(size=(n, N_GENES))


def said(work: Any) -> str:
    return str(work.console.file.getvalue())


@pytest.mark.parametrize(("n", "can_tell"), [(12, 0.0), (48, 1.0)])
def test_few_pairs_make_no_claim(
    monkeypatch: pytest.MonkeyPatch, work: Any, n: int, can_tell: float
) -> None:
    give(monkeypatch, noisy(n))
    measure_stability(work, SETTINGS)
    assert work.metrics["stability/n_pairs"] == n / 2
    assert work.metrics["stability/can_tell"] == can_tell
    assert ("stability/n_pairs_enough" in work.metrics) == bool(can_tell)
    assert ("too few pairs to tell" in said(work)) != bool(can_tell)
    assert ("10 pairs are enough" in said(work)) == bool(can_tell)
    assert "would still change" not in said(work)


def test_one_input_cell_has_no_halves(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    """The methods are compared all the same."""
    give(monkeypatch, noisy(1))
    measure_stability(work, SETTINGS)
    assert not (work.folder / "evaluation" / "stability.parquet").exists()
    assert (work.folder / "evaluation" / "consensus.parquet").is_file()
    assert {name.split("/")[0] for name in work.metrics} == {"agreement"}
    assert "pairs of one input cell cannot be halved" in said(work)


def test_what_has_no_order_is_no_metric(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scores that are one number throughout have no rank correlation."""
    flat_g = np.ones(N_GENES)
    work = run_of(
        tmp_path,
        {"deeplift/forward": flat_g, "integrated_gradients/forward": np.arange(N_GENES) + 1.0},
    )
    give(monkeypatch, np.ones((40, N_GENES)))
    measure_stability(work, SETTINGS)
    assert np.isfinite([*work.metrics.values()]).all()
    assert {"stability/n_pairs", "agreement/n_methods"} <= set(work.metrics)
    assert not {"stability/spearman", "agreement/spearman"} & set(work.metrics)
