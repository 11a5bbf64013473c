"""How far an unfinished pruning came: one file a piece of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from gradgene import __version__
from gradgene.commands.run_folder import stamp
from gradgene.commands.workspace import Workspace
from gradgene.provenance import settings_hash
from gradgene.store import atomic_path

__all__ = ["PieceFiles"]


class PieceFiles:
    """Pieces of a pruning as `.npy` files under `pruning/.progress`, for the same settings only.

    Each is replaced as a whole, so that a kill leaves it or nothing. What another configuration,
    other weights or another version left there is removed.
    """

    def __init__(self, work: Workspace) -> None:
        key = settings_hash([work.key("prune"), stamp(str(work.checkpoint)), __version__])
        self.parent = work.folder / "pruning" / ".progress"
        self.folder = self.parent / key[:16]
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

    def clear(self) -> None:
        """Forget everything: the work is done."""
        shutil.rmtree(self.parent, ignore_errors=True)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"
