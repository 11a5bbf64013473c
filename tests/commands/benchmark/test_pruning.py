"""The pruning benchmark compares equal answers, and counts what it says."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from rich.console import Console

from gradgene.commands.benchmark.pruning import Settings, _difference, measure
from gradgene.commands.benchmark.pruning_loop import LoopTimes
from gradgene.commands.config.groups import conf_dir
from gradgene.errors import ConfigError

TOY = Settings(
    pairs=5,
    genes=120,
    genes_per_cell=30,
    ratios=(0.0, 0.5, 0.9),
    loop_pairs=2,
    dim=8,
    n_heads=2,
    hidden_dim=16,
)


def test_the_default_is_the_papers_grid_and_the_model_tiny() -> None:
    grid = yaml.safe_load((conf_dir() / "pruning" / "full_grid.yaml").read_text())
    model = yaml.safe_load((conf_dir() / "model" / "tiny.yaml").read_text())
    settings = Settings()
    assert tuple(grid["ratios"]) == settings.ratios and len(settings.grid.points) == 40
    assert grid["batch_tokens"] == settings.batch_tokens and settings.pairs == 500
    for name in ("dim", "n_layers", "n_heads", "hidden_dim"):
        assert model[name] == getattr(settings, name)


def test_both_ways_find_the_same() -> None:
    findings = measure(TOY, Console(quiet=True))
    assert 0 < findings["agreement", "largest difference"] < 1e-5
    table = findings.tables["times"].set_index("what")
    assert (table[["seconds", "cpu_seconds"]] > 0).all(axis=None)
    scaled = 5 / 2 * table["seconds"]["one pair at a time"]
    assert findings["one pair at a time", "all"] == pytest.approx(scaled)
    parts = ("reading and tokenising", "choosing and cutting", "model")
    assert sum(findings["one pair at a time", part] for part in parts) == pytest.approx(scaled)
    ours = table["seconds"]["ours, by pair"]
    assert findings["ratio", "all / ours"] == pytest.approx(scaled / ours)
    goals = {figure.name: figure.goal for figure in findings.figures if figure.goal}
    assert goals == {
        "ours, by pair": "≤ 600",
        "ours, held-out panel": "≤ 600",
        "all / ours": "≥ 10",
        "largest difference": "≤ 0.0001",
    }


def test_other_answers_are_seen() -> None:
    # 2 rankings, both orders, 3 shares; 5 pairs of which the loop does 2.
    p_kmc = np.random.default_rng(0).random((1 + 2 * 2 * 3, 10, 2))
    in_order = [
        p_kmc[1 + 3 * curve + k, member].copy()
        for curve in range(4)
        for pair in range(2)
        for k in range(3)
        for member in (pair, 5 + pair)
    ]
    loop = LoopTimes(probabilities=in_order)
    assert _difference(p_kmc, loop, 2, TOY, 2) == 0
    in_order[17] += 0.25
    assert _difference(p_kmc, loop, 2, TOY, 2) == pytest.approx(0.25)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="pairs"):
        Settings(pairs=0)
    with pytest.raises(ConfigError, match=r"pruning.ratios"):
        Settings(ratios=(1.0,))
