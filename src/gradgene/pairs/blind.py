"""Pairs of cells drawn whatever their labels: what genes do together, and not what tells labels.

Between an input and a baseline that an exclusive or of two genes tells apart exactly one of the two
genes differs, and where both do, it is chance. Of cells drawn regardless of the label both genes
differ as often as they do in the population.
"""

from __future__ import annotations

import numpy as np

from gradgene.cells import Cells, in_turn, require_label
from gradgene.pairs.matching import controls_of, donors_of, strata_of
from gradgene.pairs.plan import PairPlan, no_skipped, pair_table

__all__ = ["blind_pairs"]


def blind_pairs(
    cells: Cells,
    target: str,
    labels: tuple[str, str],
    match_on: tuple[str, ...],
    n: int,
    seed: int,
) -> PairPlan:
    """`n` pairs of two cells of one stratum, each of them of either label; fewer of few cells.

    First cells are half of each label, one after the other, their donors in turn, and no cell is a
    first one twice. The second is of either label with equal chance where its stratum has both.

    Parameters
    ----------
    cells
        Prepared cells.
    target, labels
        The category and the two labels of it whose cells are drawn.
    match_on
        Categories on which the two cells agree.
    n
        Number of pairs.
    seed
        Seed of the draws.

    Raises
    ------
    LabelError
        If no cell has one of the labels.
    PairError
        If no stratum has two cells.
    """
    for label, where in zip(labels, ("study.input", "study.baseline"), strict=True):
        require_label(label, cells.counts_of(target), column=target, where=where)
    rng = np.random.default_rng(seed)
    labels_n, donors_n = cells.obs[target].to_numpy(dtype=object), donors_of(cells)
    strata_n = strata_of(cells, match_on)
    strata = {
        stratum: rows
        for stratum, rows in controls_of(
            np.flatnonzero(np.isin(labels_n, labels)), strata_n
        ).items()
        if len(rows) > 1
    }
    usable = np.concatenate([np.empty(0, dtype=np.int64), *strata.values()])
    firsts = [
        in_turn(usable[labels_n[usable] == label], donors_n, rng)[: (n + odd) // 2]
        for odd, label in zip((1, 0), labels, strict=True)
    ]
    pairs = []
    for first in np.concatenate(firsts).tolist():
        others = strata[strata_n[first]]
        others = others[others != first]
        wanted = others[labels_n[others] == labels[rng.integers(2)]]
        pairs.append((first, int(rng.choice(wanted if len(wanted) else others))))
    return PairPlan(pair_table(cells, pairs, strata_n, donors_n), no_skipped())
