"""What is written of faithfulness."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from gradgene.commands.evaluate.faithfulness import _write
from gradgene.evaluation import MEASURES


def test_a_measure_without_a_value_is_no_metric(tmp_path: Path) -> None:
    """It has a row, but metrics.json holds numbers only."""
    metrics: dict[str, float] = {}
    work = SimpleNamespace(folder=tmp_path, add_metrics=metrics.update)
    frame = pd.DataFrame(
        {"method": "deeplift", "measure": ["aopc", "swap_gap"], "value": [float("nan"), 0.5]}
    )
    _write(work, frame)  # type: ignore[arg-type]
    assert metrics == {"faithfulness/deeplift/swap_gap": 0.5}
    assert len(pd.read_parquet(tmp_path / "evaluation" / "faithfulness.parquet")) == 2


def test_relative_delta_says_of_what() -> None:
    """As in `DirectionScores.relative_delta_p` and the pair table, which takes the larger."""
    asks = MEASURES["relative_delta_p50"].asks
    assert "max(|Δf|, 0.01 Σ|score|)" in asks and "the worse of both directions" in asks
