"""How far an unfinished pruning came, one file a piece of it, and which process does which."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gradgene.commands.run.progress import with_bar
from gradgene.commands.run.workspace import Workspace
from gradgene.lit import rank_and_world
from gradgene.store import atomic_path

__all__ = ["PieceFiles", "Share"]

Made = TypeVar("Made")


class PieceFiles:
    """Pieces of a pruning as `.npy` files under `pruning/.progress`, for the same settings only.

    Each is replaced as a whole, so that a kill leaves it or nothing. What another configuration,
    other weights or another version left there is removed.
    """

    def __init__(self, work: Workspace) -> None:
        self.parent = work.folder / "pruning" / ".progress"
        self.folder = self.parent / work.address("prune")
        self.cache = work.cache
        # What besides its name decides a piece that other runs may have.
        self.of = (work.weights_hash(), work.facts.target, work.device)
        for other in self.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def read(self, name: str) -> np.ndarray | None:
        """The piece of this name; None if it was not kept, or is damaged."""
        try:
            return np.asarray(np.load(self._file(name)))
        except (OSError, ValueError, EOFError):
            return None

    def write(self, name: str, piece: np.ndarray) -> None:
        """Keep a piece."""
        with atomic_path(self._file(name)) as temporary, temporary.open("wb") as stream:
            np.save(stream, piece)

    def shared(self, name: str) -> np.ndarray | None:
        """What another run shared under this name, or this one before it was broken off."""
        self.cache.restore(self._address(name), self.folder)
        return self.read(name)

    def share(self, name: str, piece: np.ndarray) -> None:
        """Keep a piece for other runs too: its name must say all that decides it but the model."""
        self.write(name, piece)
        self.cache.keep(self._address(name), self.folder, [self._file(name)])

    def clear(self) -> None:
        """Forget everything: the work is done."""
        shutil.rmtree(self.parent, ignore_errors=True)

    def _address(self, name: str) -> str:
        return self.cache.address("cuts", name, *self.of)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


class Share:
    """A `Track` by which several processes share pieces that are kept in files.

    Each is given every n-th piece; then all wait for each other. The main process is given the
    others' pieces as well, which it finds kept, and the others have nothing more to do.
    """

    def __init__(self, work: Workspace) -> None:
        self.work = work

    def __call__(self, pieces: Sequence[Any]) -> Iterator[Any]:
        """The pieces of this process, as a progress bar, and then the others'."""
        rank, world = rank_and_world()
        yield from with_bar(self.work.console, "pruning", pieces[rank::world])
        self.work.company.wait()
        if not self.work.is_main:
            raise _Helped
        for i, piece in enumerate(pieces):
            if i % world != rank:
                yield piece

    def of(self, make: Callable[[], Made]) -> Made | None:
        """What `make` makes of all pieces; None in a process that only helped."""
        try:
            return make()
        except _Helped:
            return None


class _Helped(Exception):  # noqa: N818  nothing went wrong
    """This process has done its share, and what is made of all pieces is not its business."""
