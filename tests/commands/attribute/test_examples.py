"""Which pairs a reader is shown one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradgene.commands.attribute.examples import MOST_PAIRS, chosen_pairs


def pairs(strata: dict[str, int]) -> pd.DataFrame:
    """Pairs of strata of these sizes; within each the change falls as pairs go on."""
    names = [name for name, size in strata.items() for _ in range(size)]
    change = np.concatenate([np.arange(size)[::-1] for size in strata.values()])
    frame = pd.DataFrame({"pair": np.arange(len(names)), "stratum": names})
    return frame.assign(f_input=change - 2.0, f_baseline=-2.0)


def test_typical_weak_and_strong_ones_where_strata_are_few() -> None:
    found = chosen_pairs(pairs({"B cell": 11, "NK cell": 21}))
    assert list(found.itertuples(index=False, name=None)) == [
        *((11 + 10, "typical"), (5, "typical")),
        *((11 + 18, "weak"), (9, "weak"), (11 + 2, "strong"), (1, "strong")),
    ]


def test_one_of_each_of_the_largest_strata_where_they_are_many() -> None:
    found = chosen_pairs(pairs({f"type {i:02d}": 3 + i for i in range(20)}))
    assert len(found) == MOST_PAIRS and set(found["standing"]) == {"typical"}
    sizes = [3 + i for i in range(20)][::-1]
    first = [sum(3 + i for i in range(20)) - sum(sizes[: k + 1]) for k in range(MOST_PAIRS)]
    assert [int(p) - f for p, f in zip(found["pair"], first, strict=True)] == [
        size - 1 - round(0.5 * (size - 1)) for size in sizes[:MOST_PAIRS]
    ]


def test_no_pair_twice() -> None:
    found = chosen_pairs(pairs({"B cell": 1, "NK cell": 2}))
    assert found["pair"].is_unique and set(found["pair"]) == {0, 1, 2}
    assert found["standing"].iloc[0] == "typical"
