"""The learning rate rises to its highest and falls to nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.lit.schedule import warmup_cosine


def test_by_hand() -> None:
    shares = [warmup_cosine(step, 2, 6) for step in range(8)]
    half = 0.5**0.5
    assert shares == pytest.approx([0.5, 1, 1, (1 + half) / 2, 0.5, (1 - half) / 2, 0, 0])


@given(warmup=st.integers(0, 50), rest=st.integers(1, 50))
def test_rises_then_falls_within_its_bounds(warmup: int, rest: int) -> None:
    total = warmup + rest
    shares = [warmup_cosine(step, warmup, total) for step in range(total + 3)]
    assert all(0 <= share <= 1 for share in shares)
    assert all(share > 0 for share in shares[:total])
    assert shares[:warmup] == sorted(shares[:warmup])
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)
    assert max(shares) == 1
    assert shares[total:] == [0] * 3
