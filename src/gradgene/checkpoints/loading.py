"""One door for every kind of checkpoint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradgene.checkpoints.folder import MODEL_TYPE, load_folder
from gradgene.checkpoints.gene_list import read_gene_list
from gradgene.checkpoints.lightning import load_lightning
from gradgene.checkpoints.loaded import LoadedModel
from gradgene.checkpoints.published import FAMILIES, family_of, load_published, read_config
from gradgene.checkpoints.tensor_files import WEIGHTS, weights_in
from gradgene.errors import CheckpointError, closest

__all__ = ["CheckpointSource", "load_checkpoint", "weights_file"]

KINDS = ("folder", "lightning", *FAMILIES)


@dataclass(frozen=True)
class CheckpointSource:
    """Where a trained model comes from.

    Parameters
    ----------
    path
        A checkpoint as in `load_checkpoint`; null trains a model.
    kind
        Its kind; "auto" looks.
    genes
        A file with the names of its genes, one a line in the order of their ids, for published
        checkpoints that hold none.
    """

    path: str | None = None
    kind: str = "auto"
    genes: str | None = None

    def load(self) -> LoadedModel:
        """The model; raises `CheckpointError` as `load_checkpoint`, or for an unfit gene list."""
        if self.path is None:
            raise CheckpointError("no checkpoint is named", where="checkpoint.path")
        genes = read_gene_list(self.genes, "checkpoint.genes")
        return load_checkpoint(self.path, self.kind, genes)


def weights_file(path: str | Path, kind: str = "auto") -> Path:
    """The file with the weights that `load_checkpoint` would read, for hashing it.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint.
    """
    file = _locate(path, kind)
    return weights_in(file) if file.is_dir() else file


def load_checkpoint(
    path: str | Path, kind: str = "auto", genes: Sequence[str] | None = None
) -> LoadedModel:
    """Load a model with its tokenizer, in evaluation mode on the CPU.

    Parameters
    ----------
    path
        Of ours: a `.ckpt` file, an `hf/` folder, or the folder of a run. Published: a
        `checkpoint-*` folder, the folder of a run that holds some (the newest is taken), or a file
        of weights.
    kind
        "auto", "folder", "lightning", "perturbgene", "polygene_cam", "polygene_dv" or
        "polygene_bert".
    genes
        Gene names in the order of the checkpoint's gene ids, which perturbgene checkpoints do not
        hold. Names that contradict those a checkpoint holds are refused.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint, it is of an unknown kind, damaged, or not the one meant, or
        needs gene names.
    """
    if kind not in (*KINDS, "auto"):
        raise CheckpointError(
            f"unknown kind {kind!r}",
            where="checkpoint.kind",
            expected=f"one of {closest(kind, KINDS)} or 'auto'",
        )
    file = _locate(path, kind)
    if kind == "auto":
        kind = _kind_of(file)
    if kind in FAMILIES:
        return load_published(file, kind, genes)
    loaded = load_folder(file) if kind == "folder" else load_lightning(file)
    if genes is not None and tuple(genes) != loaded.vocabulary.genes:
        raise CheckpointError(
            "the given genes are not those the checkpoint was trained on",
            where=str(file),
            expected=f"{len(loaded.vocabulary.genes)} genes",
            found=f"{len(tuple(genes))} genes",
            fix="leave genes=None",
        )
    return loaded


def _locate(path: str | Path, kind: str) -> Path:
    """The checkpoint itself, where `path` may be the folder of a run or a file inside."""
    file = Path(path).expanduser()
    if not file.exists():
        raise CheckpointError(f"no such checkpoint: {file}", where="checkpoint.path")
    if file.name in (*WEIGHTS, "config.json"):
        return file.parent
    if file.is_dir() and (file / "checkpoints").is_dir():
        file = file / "checkpoints" / ("hf" if kind == "folder" else "best.ckpt")
        if not file.exists():
            raise CheckpointError(f"the run has no {file.name}", where=str(file.parent))
    elif file.is_dir() and not (file / "config.json").exists():
        return _newest(file) or file
    return file


def _newest(run: Path) -> Path | None:
    """The `checkpoint-<step>` folder with the highest step, None if there is none."""
    steps = {
        int(found[1]): folder
        for folder in run.iterdir()
        if (found := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and folder.is_dir()
    }
    return steps[max(steps)] if steps else None


def _kind_of(file: Path) -> str:
    if not file.is_dir():
        return "lightning"
    if not (file / "config.json").is_file():
        return "folder"
    config = read_config(file)
    kind = "folder" if config.get("model_type") == MODEL_TYPE else family_of(config)
    if kind is None:
        raise CheckpointError(
            "is of no known kind",
            where=str(file),
            expected=f"a checkpoint of {', '.join(KINDS)}",
            found=f"model_type {config.get('model_type')!r}, "
            f"architectures {config.get('architectures')!r}",
            fix="name it with checkpoint.kind, if it is one of these",
        )
    return kind
