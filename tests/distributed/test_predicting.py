"""Several processes explain every pair once, and together find what one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.distributed.test_two_processes import run

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("predicting.py")
N_PAIRS = 11


def predicted(folder: Path, sampler: str, n: int) -> list[dict[str, Any]]:
    """What each of `n` processes wrote."""
    folder.mkdir()
    run(PROGRAM, sampler, folder, n)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(n)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process found."""
    (found,) = predicted(tmp_path_factory.mktemp("alone") / "run", "auto", 1)
    assert sorted(map(int, found["mine"])) == [*range(N_PAIRS)]
    return found


@pytest.mark.parametrize(("sampler", "n"), [("auto", 2), ("as_served", 2), ("auto", 3)])
def test_every_pair_once(alone: dict[str, Any], tmp_path: Path, sampler: str, n: int) -> None:
    """Whether Lightning may put its own sampler around ours or not."""
    ranks = predicted(tmp_path / "run", sampler, n)
    shares = [sorted(map(int, rank["mine"])) for rank in ranks]
    assert all(shares)
    assert sorted(pair for share in shares for pair in share) == [*range(N_PAIRS)]
    for rank, share in zip(ranks, shares, strict=True):
        assert rank["returned"] == len(share)
        for pair, total in rank["mine"].items():
            assert total == pytest.approx(alone["mine"][pair], abs=1e-9)
        # Sums and the ledger are of all processes, in each of them.
        assert rank["n_pairs_g"] == alone["n_pairs_g"] and sum(rank["n_pairs_g"]) == N_PAIRS
        assert rank["within_dof"] == alone["within_dof"] > 0
        assert set(rank["sums"]) == set(alone["sums"])
        for name, values in rank["sums"].items():
            np.testing.assert_allclose(values, alone["sums"][name], atol=1e-9, err_msg=name)
        for column, values in rank["pairs"].items():
            assert values == pytest.approx(alone["pairs"][column], abs=1e-9), column
