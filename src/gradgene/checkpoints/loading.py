"""One door for every kind of checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradgene.checkpoints.folder import load_folder
from gradgene.checkpoints.lightning import load_lightning
from gradgene.checkpoints.loaded import LoadedModel
from gradgene.errors import CheckpointError, closest

__all__ = ["CheckpointSource", "load_checkpoint", "weights_file"]

KINDS: dict[str, Callable[[Path], LoadedModel]] = {
    "folder": load_folder,
    "lightning": load_lightning,
}


@dataclass(frozen=True)
class CheckpointSource:
    """Where a trained model comes from: `path` (null trains one) and `kind` ("auto" looks)."""

    path: str | None = None
    kind: str = "auto"


def weights_file(path: str | Path, kind: str = "auto") -> Path:
    """The file with the weights that `load_checkpoint` would read, for hashing it.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint.
    """
    file = _locate(path, kind)
    return file / "model.safetensors" if file.is_dir() else file


def _locate(path: str | Path, kind: str) -> Path:
    """The checkpoint itself, where `path` may be the folder of a run."""
    file = Path(path).expanduser()
    if not file.exists():
        raise CheckpointError(f"no such checkpoint: {file}", where="checkpoint.path")
    if file.is_dir() and (file / "checkpoints").is_dir():
        file = file / "checkpoints" / ("hf" if kind == "folder" else "best.ckpt")
        if not file.exists():
            raise CheckpointError(f"the run has no {file.name}", where=str(file.parent))
    return file


def load_checkpoint(
    path: str | Path, kind: str = "auto", genes: Sequence[str] | None = None
) -> LoadedModel:
    """Load a model with its tokenizer, in evaluation mode on the CPU.

    Parameters
    ----------
    path
        A `.ckpt` file, an `hf/` folder, or the folder of a run.
    kind
        "auto", "folder" or "lightning".
    genes
        Gene names in the order of the checkpoint's gene ids. Our checkpoints carry their own, and
        names that contradict them are refused.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, it is of an unknown kind, damaged, or not the one meant.
    """
    file = _locate(path, kind)
    if kind == "auto":
        kind = "folder" if file.is_dir() else "lightning"
    if kind not in KINDS:
        raise CheckpointError(
            f"unknown kind {kind!r}",
            where="checkpoint.kind",
            expected=f"one of {closest(kind, KINDS)} or 'auto'",
        )
    loaded = KINDS[kind](file)
    if genes is not None and tuple(genes) != loaded.vocabulary.genes:
        raise CheckpointError(
            "the given genes are not those the checkpoint was trained on",
            where=str(file),
            expected=f"{len(loaded.vocabulary.genes)} genes",
            found=f"{len(tuple(genes))} genes",
            fix="leave genes=None",
        )
    return loaded
