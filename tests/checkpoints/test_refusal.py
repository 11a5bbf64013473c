"""Damaged, hostile and foreign checkpoints are refused in one line, and never executed."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gradgene.checkpoints import load_checkpoint, save_folder
from gradgene.errors import CheckpointError
from tests.checkpoints.toys import original, save_lightning


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound `hf/` and `best.ckpt` of one model."""
    folder = tmp_path_factory.mktemp("sound")
    made = original()
    save_folder(made.model, made.tokenizer, folder / "hf")
    save_lightning(made, folder / "best.ckpt")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder to damage."""
    shutil.copytree(saved / "hf", tmp_path / "hf")
    return tmp_path / "hf"


def refusal(path: Path, **more: Any) -> str:
    """The one line that refuses a checkpoint."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Hostile:
    """Pickles as a call that creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _torch_save(content: object, file: Path) -> None:
    torch.save(content, file)


def _old_torch_save(content: object, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def _plain_pickle(content: object, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [_torch_save, _old_torch_save])
@pytest.mark.parametrize("key", ["hyper_parameters", "callbacks"])
def test_code_in_a_checkpoint_is_not_run(
    saved: Path, tmp_path: Path, write: Callable[[object, Path], None], key: str
) -> None:
    content = torch.load(saved / "best.ckpt", weights_only=True)
    content[key] = Hostile(tmp_path / "executed")
    write(content, tmp_path / "hostile.ckpt")
    message = refusal(tmp_path / "hostile.ckpt")
    assert "hostile.ckpt: cannot be read as weights and plain types" in message
    assert not (tmp_path / "executed").exists()
    # The payload is live: whoever unpickles without care runs it.
    torch.load(tmp_path / "hostile.ckpt", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_code_in_a_plain_pickle_is_not_run(tmp_path: Path) -> None:
    _plain_pickle({"state_dict": Hostile(tmp_path / "executed")}, tmp_path / "hostile.ckpt")
    refusal(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "executed").exists()
    pickle.loads((tmp_path / "hostile.ckpt").read_bytes())
    assert (tmp_path / "executed").exists()


def test_damaged_lightning_checkpoints(saved: Path, tmp_path: Path) -> None:
    whole, rng = (saved / "best.ckpt").read_bytes(), random.Random(0)
    pickled = pickle.dumps({"a": [1, 2, 3], "b": {"x": 1}})
    damaged = [b"", b"PK", b"just some text\n", whole[: len(whole) // 2], whole[:-3]]
    damaged += [rng.randbytes(rng.randint(1, 200)) for _ in range(150)]
    damaged += [pickled[:stop] for stop in range(len(pickled))]
    file = tmp_path / "broken.ckpt"
    for content in damaged:
        file.write_bytes(content)
        assert "broken.ckpt: cannot be read" in refusal(file)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.01, 0.5, 0.999])
def test_truncated_safetensors(folder: Path, share: float) -> None:
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert f"{folder}: cannot be read" in refusal(folder)


def test_missing_files_are_listed(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refusal(folder) == f"{folder}: lacks config.json"
    (folder / "vocabulary.json").unlink()
    assert refusal(folder) == f"{folder}: lacks config.json, vocabulary.json"
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "3"),
        ("config.json", "{}"),
        ("config.json", '{"dim": 16, "cells": {"donor": null}}'),
        ("config.json", '{"dim": 16, "cells": {"phenotypes": ["disease"], "colour": 1}}'),
        ("config.json", '{"dim": 16, "cells": {"phenotypes": []}}'),
        ("config.json", '{"width": 16, "cells": {"phenotypes": ["disease"]}}'),
        ("config.json", '{"dim": 15, "n_heads": 2, "cells": {"phenotypes": ["disease"]}}'),
        ("vocabulary.json", "not json"),
        ("vocabulary.json", "{}"),
        ("vocabulary.json", "[1, 2]"),
        (
            "vocabulary.json",
            '{"categories": [], "phenotypes": [], "genes": ["a"], "bin_edges": [1]}',
        ),
        (
            "vocabulary.json",
            '{"categories": {}, "phenotypes": [], "genes": ["a", "a"], "bin_edges": [1]}',
        ),
    ],
)
def test_damaged_json(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert str(folder) in refusal(folder)


def test_wrong_tensors_are_listed(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["head_transform.extra"] = tensors.pop("head_transform.bias")
    tensors["head_norm.weight"] = torch.ones(17)
    save_file(tensors, folder / "model.safetensors")
    message = refusal(folder)
    assert "3 tensors do not fit the model" in message
    for name in ("head_norm.weight", "head_transform.bias", "head_transform.extra"):
        assert name in message
    assert "(17,)" in message and "(16,)" in message


def test_another_vocabulary_does_not_fit(folder: Path) -> None:
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    vocabulary["genes"].pop()
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    assert "1 tensors do not fit the model: identity_embedding.weight" in refusal(folder)


@pytest.mark.parametrize("lost", ["hyper_parameters", "state_dict"])
def test_a_foreign_checkpoint_is_named_so(saved: Path, tmp_path: Path, lost: str) -> None:
    content = torch.load(saved / "best.ckpt", weights_only=True)
    del content[lost]
    torch.save(content, tmp_path / "foreign.ckpt")
    message = refusal(tmp_path / "foreign.ckpt")
    assert "foreign.ckpt: is not a checkpoint of gradgene" in message and lost in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vocabulary", {}),
        ("vocabulary", None),
        ("schema", {"donor": None}),
        ("schema", {"phenotypes": ["disease"], "colour": 1}),
        ("size", {"width": 3}),
        ("size", 3),
    ],
)
def test_wrong_hyperparameters(saved: Path, tmp_path: Path, key: str, value: object) -> None:
    content = torch.load(saved / "best.ckpt", weights_only=True)
    content["hyper_parameters"][key] = value
    torch.save(content, tmp_path / "foreign.ckpt")
    assert "foreign.ckpt: " in refusal(tmp_path / "foreign.ckpt")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": {}}, "text"])
def test_other_things_that_torch_saves(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    assert "is not a checkpoint of gradgene" in refusal(tmp_path / "other.ckpt")


def test_lightning_tensors_are_checked(saved: Path, tmp_path: Path) -> None:
    content = torch.load(saved / "best.ckpt", weights_only=True)
    del content["state_dict"]["model.head_norm.bias"]
    torch.save(content, tmp_path / "partial.ckpt")
    assert "1 tensors do not fit the model: head_norm.bias" in refusal(tmp_path / "partial.ckpt")


@pytest.mark.parametrize("change", ["order", "fewer", "other"])
def test_contradicting_genes(folder: Path, change: str) -> None:
    genes = [f"g{i}" for i in range(50)]
    given = {"order": genes[::-1], "fewer": genes[:-1], "other": [*genes[:-1], "new"]}[change]
    message = refusal(folder, genes=given)
    assert "not those the checkpoint was trained on" in message
    assert "expected 50 genes" in message and f"found {len(given)} genes" in message


def test_unknown_kind(folder: Path) -> None:
    message = refusal(folder, kind="lightening")
    assert "checkpoint.kind: unknown kind 'lightening'" in message
    assert "'lightning'" in message and "'perturbgene'" in message and "or 'auto'" in message


def test_no_such_path(tmp_path: Path) -> None:
    message = refusal(tmp_path / "absent.ckpt")
    assert message == f"checkpoint.path: no such checkpoint: {tmp_path / 'absent.ckpt'}"


def test_kinds_of_another_shape(saved: Path) -> None:
    assert "lacks config.json" in refusal(saved / "best.ckpt", kind="folder")
    assert "cannot be read" in refusal(saved / "hf", kind="lightning")
    assert "lacks config.json" in refusal(saved)  # a folder that holds neither
