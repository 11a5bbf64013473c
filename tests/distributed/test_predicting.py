"""Several processes explain every pair once, and together find what one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.distributed.forking import run_program

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("predicting.py")
N_PAIRS = 11


RUNS = [("auto", 2), ("as_served", 2), ("auto", 3)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what the processes of all runs wrote."""
    folder = tmp_path_factory.mktemp("predicting")
    run_program(PROGRAM, folder, "auto:1", *(f"{sampler}:{n}" for sampler, n in RUNS))
    return folder


def predicted(written: Path, sampler: str, n: int) -> list[dict[str, Any]]:
    """What each of `n` processes wrote."""
    folder = written / f"{sampler}:{n}"
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(n)]


@pytest.fixture(scope="module")
def alone(written: Path) -> dict[str, Any]:
    """What one process found."""
    (found,) = predicted(written, "auto", 1)
    assert sorted(map(int, found["mine"])) == [*range(N_PAIRS)]
    return found


@pytest.mark.parametrize(("sampler", "n"), RUNS)
def test_every_pair_once(alone: dict[str, Any], written: Path, sampler: str, n: int) -> None:
    """Whether Lightning may put its own sampler around ours or not."""
    ranks = predicted(written, sampler, n)
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
