"""Progress of work that Lightning does not do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import rich.console
from rich.console import RenderableType
from rich.progress import track
from rich.status import Status

from gradgene.lit import Minutes

__all__ = ["Console", "with_bar"]

Piece = TypeVar("Piece")


class Console(rich.console.Console):
    """Rich's, without spinners in notebooks, where they want a package that nothing else needs."""

    def status(self, status: RenderableType, **more: Any) -> Status:
        """What is being done, shown meanwhile where it can be wiped away again."""
        if not self.is_jupyter:
            return super().status(status, **more)
        silent = Console(quiet=True, force_jupyter=False, force_terminal=False)
        return Status(status, console=silent)


def with_bar(console: rich.console.Console, what: str, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces of some work, with a bar in a terminal and a line a minute elsewhere."""
    if console.is_terminal:
        yield from track(pieces, description=what, console=console)
        return
    minutes = Minutes()
    for number, piece in enumerate(pieces):
        yield piece
        if minutes.passed():
            console.print(f"{what}: {number + 1} of {len(pieces)}")
