"""Artifacts are named by what is in them, and every run names what it was made from."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gradgene.reports import wandb_artifacts
from gradgene.reports.wandb_artifacts import Piece, draw_lineage, log_lineage
from tests.wandb_files import nobody

FACTS = {"name": "cells.h5ad", "sha256": "0" * 64, "n_cells": 120, "n_genes": 30}


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with nobody(tmp_path):
        monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wb"))
        yield


class Config(dict[str, Any]):
    """A run's configuration, which takes changes only where that is said."""

    def update(self, more: Any, allow_val_change: bool = False) -> None:  # type: ignore[override]
        assert allow_val_change
        super().update(more)


@dataclass
class Run:
    """What `log_lineage` asks of a W&B run, keeping what it is given."""

    offline: bool = True
    config: Config = field(default_factory=Config)
    logged: list[Any] = field(default_factory=list)
    used: list[Any] = field(default_factory=list)

    def log_artifact(self, artifact: Any) -> None:
        self.logged.append(artifact)

    def use_artifact(self, artifact: Any) -> None:
        self.used.append(artifact)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_parquet", ".parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_name_follows_the_content_alone(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("a.ckpt", "b.ckpt", "sub/a.ckpt"))
    third.parent.mkdir()
    for file, weights in ((first, b"one"), (second, b"one"), (third, b"one")):
        file.write_bytes(weights)
    one, same = Piece.checkpoint(first), Piece.checkpoint(third)
    assert one.name == same.name and one.name.startswith("checkpoint-")
    assert one.artifact(False).digest == same.artifact(True, study="other").digest
    third.write_bytes(b"two")
    assert Piece.checkpoint(third).name != one.name


def test_an_exported_folder_is_the_checkpoint_beside_it(tmp_path: Path) -> None:
    weights = tmp_path / "checkpoints" / "hf" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"exported")
    alone = Piece.checkpoint(weights)
    assert [*alone.files] == ["model.safetensors"]
    best = tmp_path / "checkpoints" / "best.ckpt"
    best.write_bytes(b"trained")
    assert Piece.checkpoint(weights).name == Piece.checkpoint(best).name != alone.name


def test_cells_stay_at_home(tmp_path: Path) -> None:
    data = Piece.dataset(FACTS)
    artifact = data.artifact(copied=True)
    entries = artifact.manifest.entries
    assert [*entries] == ["dataset.json"] and data.files == {}
    written = json.loads(Path(str(entries["dataset.json"].local_path)).read_text())
    assert written == {"name": "cells.h5ad", "sha256": "0" * 64}
    assert artifact.metadata == FACTS
    fewer = Piece.dataset({**FACTS, "n_cells": 7})  # the same file, of which fewer cells are read
    assert (fewer.name, fewer.artifact(True).digest) == (data.name, artifact.digest)
    assert Piece.dataset({**FACTS, "sha256": "1" * 64}).name != data.name


def test_what_belongs_to_which_stage(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        attributions__genes_parquet="a",
        attributions__cells_parquet="their own columns",
        attributions__effects_parquet="b",
        attributions__gim__genes_parquet="c",
        attributions__pairs__shard_parquet="large",
        pruning__curves_parquet="d",
        evaluation__sanity_parquet="e",
    )
    kinds = {kind: {*Piece.of(kind, folder).files} for kind in ("attributions", "curves")}
    assert kinds["attributions"] == {"attributions/genes.parquet", "attributions/gim/genes.parquet"}
    assert kinds["curves"] == {"pruning/curves.parquet"}
    evaluation = {"evaluation/sanity.parquet", "attributions/effects.parquet"}
    assert {*Piece.of("evaluation", folder).files} == evaluation
    before = Piece.of("attributions", folder).name
    write(folder, attributions__effects_parquet="of a later stage")
    assert Piece.of("attributions", folder).name == before


def test_lineage_offline_is_in_the_configuration_and_in_the_output(tmp_path: Path) -> None:
    folder = write(tmp_path, pruning__curves_parquet="d")
    data, curves, run = Piece.dataset(FACTS), Piece.of("curves", folder), Run()
    log_lineage(run, [data, Piece.of("evaluation", folder)], [curves], {"study": "tiny"})
    lineage = {data.name: data.artifact(False).digest}
    assert run.config["lineage"] == lineage and run.used == []
    (logged,) = run.logged
    assert (logged.name, logged.type) == (curves.name, "curves")
    assert logged.metadata == {"study": "tiny", "lineage": lineage}


def test_lineage_online_is_drawn_and_uploads_no_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "a.ckpt"
    weights.write_bytes(b"one")
    data, checkpoint, run = Piece.dataset(FACTS), Piece.checkpoint(weights), Run(offline=False)
    log_lineage(run, [data, checkpoint], [], {})
    drafted, named = run.used
    assert drafted.name == data.name and named == f"{checkpoint.name}:latest"

    def refuse(artifact: Any) -> None:
        raise ConnectionError("server gone")

    run.use_artifact = refuse  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        log_lineage(run, [data, checkpoint], [], {})
    assert caplog.text.count("as input not logged: ConnectionError: server gone") == 2
    assert {*run.config["lineage"]} == {data.name, checkpoint.name}, "noted all the same"


@dataclass
class Uploaded:
    """A run on the server, and the names it is known to use."""

    config: dict[str, Any]
    used: list[str] = field(default_factory=list)

    def used_artifacts(self) -> list[Any]:
        return [type("Artifact", (), {"name": f"{name}:v0"}) for name in self.used]

    def use_artifact(self, artifact: str) -> None:
        self.used.append(artifact)


def test_edges_of_synced_runs_are_drawn_once() -> None:
    train = Uploaded({"lineage": {"dataset-1": "x"}})
    prune = Uploaded({"lineage": {"checkpoint-1": "x", "attributions-1": "y"}}, ["checkpoint-1"])

    class Api:
        def runs(self, path: str, filters: Any) -> list[Uploaded]:
            assert (path, filters) == ("me/gradgene", {"group": "tiny"})
            return [train, prune, Uploaded({})]

        def artifact_exists(self, name: str) -> bool:
            return "dataset" not in name  # whose cells were never logged

        def artifact(self, name: str) -> str:
            return name.removeprefix("me/gradgene/").removesuffix(":latest")

    assert draw_lineage(Api(), "me/gradgene", "tiny") == 1
    assert prune.used == ["checkpoint-1", "attributions-1"] and train.used == []
    assert draw_lineage(Api(), "me/gradgene", "tiny") == 0


def test_a_server_that_never_answers_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_artifacts, "WAIT_S", 0.05)
    monkeypatch.setenv("WANDB_MODE", "online")
    run, asked = Run(offline=False), threading.Event()
    run.use_artifact = lambda artifact: asked.wait(60)  # type: ignore[method-assign, assignment, return-value]
    inputs = [Piece.dataset(FACTS), Piece.dataset({**FACTS, "sha256": "1"})]
    with caplog.at_level(logging.WARNING):
        log_lineage(run, inputs, [], {})
    asked.set()
    assert caplog.text.count("no answer within") == 1, "nor is it asked about the other input"
    assert {*run.config["lineage"]} == {piece.name for piece in inputs}
    assert os.environ["WANDB_MODE"] == "offline", "nor is it asked by the next stage"
