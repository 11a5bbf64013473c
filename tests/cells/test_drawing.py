"""Half of each label, evenly over donors, reproducibly."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import draw_cells


def table(sizes: dict[tuple[str, str], int], seed: int = 0) -> pd.DataFrame:
    """Cells of (label, donor), in random order."""
    rows = [key for key, n in sizes.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["label", "donor"])
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


sizes = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("uvwxyz")), st.integers(1, 30), min_size=1
)


@given(sizes, st.integers(2, 60), st.integers(0, 5))
def test_as_even_as_can_be(sizes: dict[tuple[str, str], int], n: int, seed: int) -> None:
    obs = table(sizes)
    rows = draw_cells(obs, "label", ("a", "b"), "donor", n, seed)
    assert np.array_equal(rows, np.unique(rows))
    drawn = obs.iloc[rows].groupby(["label", "donor"]).size().to_dict()
    for label, half in (("a", n - n // 2), ("b", n // 2)):
        available = {d: k for (kind, d), k in sizes.items() if kind == label}
        mine = {d: drawn.get((label, d), 0) for d in available}
        assert sum(mine.values()) == min(half, sum(available.values()))
        short = [k for d, k in mine.items() if k < available[d]]
        if short:  # donors that have more to give differ by one at most, and nobody gave more
            assert max(mine.values()) - min(short) <= 1
    assert not (obs.iloc[rows]["label"] == "c").any()


def test_without_donors_half_and_half() -> None:
    obs = table({("a", "u"): 40, ("b", "v"): 9, ("c", "u"): 50})
    rows = draw_cells(obs, "label", ("a", "b"), None, 20, 0)
    assert obs.iloc[rows]["label"].value_counts().to_dict() == {"a": 10, "b": 9}


def test_seeded_and_uniform_within_a_donor() -> None:
    obs = table({("a", "u"): 20, ("b", "v"): 20})
    draws = [draw_cells(obs, "label", ("a", "b"), "donor", 10, seed) for seed in range(100)]
    assert np.array_equal(draws[3], draw_cells(obs, "label", ("a", "b"), "donor", 10, 3))
    often = np.bincount(np.concatenate(draws), minlength=40)
    assert often.sum() == 1000
    # Each cell is drawn with probability 1/4: 25 times, standard deviation 4.3.
    assert np.abs(often - 25).max() < 22
