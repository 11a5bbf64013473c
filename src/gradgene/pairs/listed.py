"""Pairs that a file lists by cell names."""

from __future__ import annotations

from gradgene.cells import Cells
from gradgene.cells.user_files import read_table
from gradgene.errors import PairError

__all__ = ["listed_pairs"]


def listed_pairs(name: str, cells: Cells) -> list[tuple[int, int]]:
    """Positions of the input and the baseline of each pair in a file, in its order.

    `name` is a CSV or parquet with columns `input` and `baseline` holding cell names.

    Raises
    ------
    PairError
        If there is no such file, it is no such table, or it names cells that are not there or that
        several cells are called.
    """
    frame = read_table(name, "pairs.file", ("input", "baseline"), error=PairError, text=True)
    if not cells.obs.index.is_unique:
        raise PairError(
            "cell names occur more than once, so a pair file is ambiguous",
            where="pairs.file",
            fix="call obs_names_make_unique() on the data first",
        )
    position = {name: i for i, name in enumerate(cells.obs.index)}
    unknown = [n for n in (*frame["input"], *frame["baseline"]) if n not in position]
    if unknown:
        raise PairError(
            f"{len(unknown)} cell names are not among the cells: {unknown[0]!r}",
            where=name,
            fix="use obs names of held-out cells that pass the filters",
        )
    return [
        (position[a], position[b]) for a, b in zip(frame["input"], frame["baseline"], strict=True)
    ]
