"""Progress of work that Lightning does not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from gradgene.lit import Minutes

__all__ = ["with_bar"]

Piece = TypeVar("Piece")


def with_bar(console: Console, what: str, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces of some work, with a bar in a terminal and a line a minute elsewhere."""
    if console.is_terminal:
        yield from track(pieces, description=what, console=console)
        return
    minutes = Minutes()
    for number, piece in enumerate(pieces):
        yield piece
        if minutes.passed():
            console.print(f"{what}: {number + 1} of {len(pieces)}")
