"""How far an unfinished pruning came: one file a piece of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from gradgene.commands.workspace import Workspace
from gradgene.provenance import program_hash, settings_hash
from gradgene.store import atomic_path

__all__ = ["PieceFiles"]


class PieceFiles:
    """Pieces of a pruning as `.npy` files under `pruning/.progress`, for the same settings only.

    Each is replaced as a whole, so that a kill leaves it or nothing. What another configuration,
    other weights or another version left there is removed.
    """

    def __init__(self, work: Workspace) -> None:
        key = settings_hash([work.key("prune"), work.weights_hash(), program_hash()])
        self.parent = work.folder / "pruning" / ".progress"
        self.folder = self.parent / key[:16]
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
