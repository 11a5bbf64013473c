"""What is kept comes back to the last bit, and only to what it is of."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from gradgene.store import AttributionState, read_state, write_state
from tests.forked import Forked

OF = {"configuration": "abc", "process": "0"}


def state(n: int = 3) -> AttributionState:
    """Sums of several shapes and types, and a ledger of two."""
    generator = torch.Generator().manual_seed(n)
    return AttributionState(
        n_batches=n,
        sums={
            "sums": torch.randn(4, 3, 5, generator=generator, dtype=torch.float64).transpose(0, 1),
            "n_pairs_g": torch.tensor([n, 2]),
            "empty": torch.zeros(0, 4),
        },
        ledger=pd.DataFrame(
            {"pair": [4, n], "f_input": torch.randn(2, generator=generator).numpy()}, index=[7, 7]
        ),
        failed=[{"pair": 9, "reason": "NaN"}],
        shards=[{"file": "part-000-00000.parquet", "rows": 3, "pairs": [4, n]}],
    )


def assert_same(found: AttributionState | None, expected: AttributionState) -> None:
    """Bit by bit."""
    assert found is not None
    assert found.n_batches == expected.n_batches
    assert set(found.sums) == set(expected.sums)
    for name, value in expected.sums.items():
        assert found.sums[name].dtype == value.dtype and torch.equal(found.sums[name], value)
    pd.testing.assert_frame_equal(
        found.ledger, expected.ledger.reset_index(drop=True), check_exact=True
    )
    assert (found.failed, found.shards) == (expected.failed, expected.shards)


def test_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "deeper" / "rank-0.safetensors"
    assert read_state(OF, file) == (None, "")
    write_state(state(), OF, file)
    found, why = read_state(OF, file)
    assert why == ""
    assert_same(found, state())
    write_state(state(5), OF, file)
    assert_same(read_state(OF, file)[0], state(5))
    assert [f.name for f in file.parent.iterdir()] == [file.name]


def test_nothing_done_yet(tmp_path: Path) -> None:
    write_state(AttributionState(0, {}, pd.DataFrame()), OF, tmp_path / "file")
    found, _ = read_state(OF, tmp_path / "file")
    assert found is not None and found.n_batches == 0 and found.ledger.empty


@pytest.mark.parametrize("key", OF)
def test_of_something_else(tmp_path: Path, key: str) -> None:
    write_state(state(), OF, tmp_path / "file")
    assert read_state({**OF, key: "other"}, tmp_path / "file") == (
        None,
        f"what was done before has another {key}",
    )


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_damaged(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "file"
    write_state(state(), OF, file)
    file.write_bytes(file.read_bytes()[:keep])
    found, why = read_state(OF, file)
    assert found is None and "cannot be read" in why


@pytest.mark.slow
def test_a_kill_leaves_a_whole_state(tmp_path: Path) -> None:
    """Whenever it comes, the file is the state of one moment and none older than the last said."""
    file = tmp_path / "file"
    process = Forked(Path(__file__).with_name("writing_states.py"), file)
    try:
        process.until(lambda: bool(process.said))
        for _ in range(30):
            found, why = read_state(OF, file)
            assert why == ""
            assert found is not None
            assert_same(found, state(found.n_batches))
            time.sleep(0.01)
    finally:
        assert process.end(signal.SIGKILL) == -signal.SIGKILL, process.error
    said = [int(line) for line in process.said.split()]
    found, _ = read_state(OF, file)
    assert found is not None and found.n_batches >= max(said)
    assert_same(found, state(found.n_batches))
