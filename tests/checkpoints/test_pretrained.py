"""A training may begin with what another one left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradgene.checkpoints import PretrainedModel, save_folder
from gradgene.errors import CheckpointError
from tests.checkpoints.toys import original
from tests.planted import make_cells, make_tokenizer


def test_weights_and_vocabulary_are_the_checkpoints(tmp_path: Path) -> None:
    made = original(("d0",))
    save_folder(made.model, made.tokenizer, tmp_path / "hf", made.trained_on)
    source = PretrainedModel(str(tmp_path / "hf"), checkpoint_activations=True)
    loaded = source.load()
    assert loaded.trained_on == ("d0",) and loaded.vocabulary == made.vocabulary
    model = source(made.vocabulary)
    assert model.checkpoint_activations and not model.compiled
    for name, weight in made.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    assert source.file() == tmp_path / "hf" / "model.safetensors"


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    other = make_tokenizer(make_cells(n_genes=30)).vocabulary
    with pytest.raises(CheckpointError, match=r"model\.path"):
        PretrainedModel(str(tmp_path / "hf"))(other)


def test_a_missing_checkpoint_names_its_key(tmp_path: Path) -> None:
    source = PretrainedModel(str(tmp_path / "absent"))
    for call in (source.load, source.file):
        with pytest.raises(CheckpointError, match=r"model\.path: no such checkpoint: .*absent"):
            call()
