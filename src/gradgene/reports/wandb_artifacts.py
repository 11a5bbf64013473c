"""Artifacts with lineage: data -> checkpoint -> attributions -> curves -> evaluation.

An artifact is named after its kind and its content, so that equal files of several runs are one
version of one artifact, and a stage can name what it stands on without knowing who made it.

W&B draws the edge from an input to a run by `Run.use_artifact`, which asks the server and refuses
to work offline. So the inputs of every run are written into its configuration, `lineage: {name of
the artifact: its digest}`, and into the metadata of its output; online the edge is drawn as well.
After `wandb sync` of offline runs `gradgene report RUN --wandb` draws theirs (`draw_lineage`).

(Inside this file `wandb` is the installed package, not the module beside it.)
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import wandb

from gradgene.provenance import file_hash
from gradgene.reports.wandb_content import guarded

__all__ = ["KINDS", "Piece", "draw_lineage", "log_lineage"]

#: Seconds for the server to answer about one artifact.
WAIT_S = 30.0
#: What is made from the files of a run's folder: patterns of files, and names left out.
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "attributions": (
        ("attributions/*.parquet", "attributions/*/genes.parquet"),
        # Cells' own columns stay at home; what evaluation adds is no result of attribution.
        ("cells.parquet", "effects.parquet", "enrichment.parquet"),
    ),
    "curves": (("pruning/*.parquet",), ()),
    "evaluation": (
        (
            "evaluation/*.parquet",
            "attributions/effects.parquet",
            "attributions/enrichment.parquet",
        ),
        (),
    ),
}


@dataclass(frozen=True)
class Piece:
    """What becomes one artifact.

    Attributes
    ----------
    kind
        `dataset`, `checkpoint`, or one of `KINDS`; the artifact's type.
    files
        Name in the artifact -> file. Of a data set there is none: cells are never uploaded.
    facts
        Of a data set what identifies it: its name and hash, written to `dataset.json`.
    metadata
        What else is known, which does not tell contents apart.
    """

    kind: str
    files: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def dataset(cls, facts: Mapping[str, Any]) -> Piece:
        """The data by `name` and hash; `n_cells` and `n_genes` are metadata."""
        sizes = {k: v for k, v in facts.items() if k.startswith("n_")}
        return cls("dataset", facts={k: facts[k] for k in facts if k not in sizes}, metadata=sizes)

    @classmethod
    def checkpoint(cls, weights: Path) -> Piece:
        """A file of weights; of an exported folder beside `best.ckpt` it is that file."""
        best = weights.parent.parent / "best.ckpt"
        file = best if weights.parent.name == "hf" and best.is_file() else weights
        return cls("checkpoint", {file.name: file})

    @classmethod
    def of(cls, kind: str, folder: Path) -> Piece:
        """One of `KINDS`, from the files that the folder of a run has."""
        patterns, left_out = KINDS[kind]
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        kept = [file for file in files if file.name not in left_out or kind == "evaluation"]
        return cls(kind, {file.relative_to(folder).as_posix(): file for file in kept})

    @property
    def name(self) -> str:
        """`<kind>-<twelve hex digits of the content>`."""
        contents = {name: file_hash(file) for name, file in sorted(self.files.items())}
        text = json.dumps([contents, dict(self.facts)], sort_keys=True)
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def artifact(self, copied: bool, **metadata: Any) -> wandb.Artifact:
        """The artifact; `copied` files may change before they are uploaded, others must not."""
        more = {**self.facts, **self.metadata, **metadata}
        artifact = wandb.Artifact(self.name, type=self.kind, metadata=more)
        if self.facts:
            # Not `new_file`, whose folder W&B leaves to the garbage collector; "mutable" is copied.
            with tempfile.TemporaryDirectory() as folder:
                about = Path(folder, "dataset.json")
                about.write_text(json.dumps(dict(self.facts), indent=1, sort_keys=True))
                artifact.add_file(str(about), name=about.name, policy="mutable", skip_cache=True)
        for name, file in self.files.items():
            lasts = not copied or self.kind == "checkpoint"
            policy: Literal["mutable", "immutable"] = "immutable" if lasts else "mutable"
            artifact.add_file(str(file.resolve()), name=name, policy=policy, skip_cache=True)
        return artifact


def log_lineage(
    wandb_run: Any, inputs: Sequence[Piece], outputs: Sequence[Piece], facts: Mapping[str, Any]
) -> None:
    """Note what an open W&B run was made from, and log what it made.

    Parameters
    ----------
    wandb_run
        The open run, online or offline.
    inputs, outputs
        What the stage read and wrote; pieces without content are left out.
    facts
        Metadata of the outputs, such as the name of the study.

    Notes
    -----
    Raises nothing: what fails is a warning in the log.
    """
    lineage: dict[str, str] = {}

    def use(piece: Piece) -> None:
        artifact = piece.artifact(copied=False)
        lineage[piece.name] = artifact.digest
        if wandb_run.offline or os.environ.get("WANDB_MODE") == "offline":  # it did not answer
            return
        # Weights and tables of others are not uploaded as an input: their own run logs them.
        what = artifact if piece.facts else f"{piece.name}:latest"
        _within(WAIT_S, lambda: wandb_run.use_artifact(what))

    def make(piece: Piece) -> None:
        wandb_run.log_artifact(piece.artifact(copied=True, **facts, lineage=lineage))

    for piece in inputs:
        if piece.files or piece.facts:
            guarded(f"{piece.kind} as input", partial(use, piece))
    note = {"lineage": lineage}
    guarded("lineage", lambda: wandb_run.config.update(note, allow_val_change=True))
    for piece in outputs:
        if piece.files:
            guarded(f"{piece.kind} artifact", partial(make, piece))


def _within(seconds: float, ask: Callable[[], Any]) -> None:
    """Ask the server, which W&B itself would wait for without end.

    Raises `TimeoutError`, after which nothing more is asked of the server by this process.
    """
    done, failed = threading.Event(), list[Exception]()

    def work() -> None:
        try:
            ask()
        except Exception as error:
            failed.append(error)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    if not done.wait(seconds):
        os.environ["WANDB_MODE"] = "offline"
        raise TimeoutError(f"no answer within {seconds:.0f} s: logging offline from now on")
    if failed:
        raise failed[0]


def draw_lineage(api: Any, path: str, group: str) -> int:
    """Draw the edges from inputs to the runs of a group that were uploaded by `wandb sync`.

    Parameters
    ----------
    api
        A `wandb.Api`.
    path
        `entity/project`.
    group
        The group whose runs' `lineage` is read.

    Returns
    -------
    int
        How many edges were drawn; artifacts that the server does not have are left out.
    """
    drawn = 0
    for run in api.runs(path, filters={"group": group}):
        known = {artifact.name.partition(":")[0] for artifact in run.used_artifacts()}
        for name in run.config.get("lineage") or {}:
            if name in known or not api.artifact_exists(f"{path}/{name}:latest"):
                continue
            run.use_artifact(api.artifact(f"{path}/{name}:latest"))
            drawn += 1
    return drawn
