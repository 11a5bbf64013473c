"""Draw the cells of a contrast out of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = ["draw_cells", "in_turn"]


def draw_cells(
    obs: pd.DataFrame,
    target: str,
    labels: Sequence[str],
    donor: str | None,
    n: int,
    seed: int,
) -> np.ndarray:
    """Sorted positions of `n` cells, as many of each label, evenly over donors.

    Every donor of a label gives as many cells as the others, or all it has if these are fewer;
    which ones is a uniform draw. A label with fewer cells than its share gives all of them. What
    `n` leaves over goes to the first labels.

    Parameters
    ----------
    obs
        (cells,) with the columns `target` and `donor`; without a donor column cells are drawn
        uniformly.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for place, label in enumerate(labels):
        wanted = n // len(labels) + (place < n % len(labels))
        mine = np.flatnonzero((obs[target] == label).to_numpy())
        donors_n = obs[donor].astype(str).to_numpy() if donor else np.zeros(len(obs))
        chosen.append(in_turn(mine, donors_n, rng)[:wanted])
    return np.sort(np.concatenate(chosen))


def in_turn(rows: np.ndarray, donors_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in random order, but every donor's first before any one's second.

    Parameters
    ----------
    rows
        Positions of cells.
    donors_n
        (cells,) donor of every cell.
    """
    rows = rng.permutation(rows)
    donors = donors_n[rows].astype(str)
    turn = pd.Series(donors).groupby(donors).cumcount().to_numpy()
    return np.asarray(rows[np.argsort(turn, kind="stable")])
