"""Labels exchanged at random between the cells of a donor: a control that should find nothing.

Pairs drawn by permuted labels differ in no systematic way, so every score of such a run is null:
genes, directions and p-values say how often chance alone would name them. They are not results. The
model, and what is ranked or judged without pairs (DEG, HVG, pruning), keep the true labels.
"""

from __future__ import annotations

import numpy as np

__all__ = ["has_both", "permuted_labels"]


def permuted_labels(
    labels_n: np.ndarray, pair: tuple[str, str], donors_n: np.ndarray, seed: int
) -> np.ndarray:
    """(cells,) labels with the two of `pair` permuted among the cells of each donor that have one.

    Every donor keeps its number of cells of each label, and cells of other labels theirs.
    """
    rng = np.random.default_rng(seed)
    permuted_n = labels_n.copy()
    one_of_n = np.isin(labels_n.astype(str), pair)
    for donor in sorted(set(donors_n.tolist())):
        rows = np.flatnonzero(one_of_n & (donors_n == donor))
        permuted_n[rows] = labels_n[rng.permutation(rows)]
    return permuted_n


def has_both(labels_n: np.ndarray, pair: tuple[str, str], donors_n: np.ndarray) -> np.ndarray:
    """(cells,) bool: the cell's donor has cells of both labels, so permuting can change them."""
    sides = [set(donors_n[labels_n == label].tolist()) for label in pair]
    both = sorted(sides[0] & sides[1])
    return np.isin(donors_n.astype(str), both)
