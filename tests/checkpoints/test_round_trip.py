"""What was saved is what is loaded, to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gradgene.checkpoints import load_checkpoint, save_folder, weights_file
from gradgene.errors import CheckpointError
from gradgene.tokens import Layout
from tests.checkpoints.toys import logits, original, save_lightning
from tests.planted import BIN_EDGES, PHENOTYPES, VARIANTS, make_adata, make_cells


@pytest.mark.parametrize("kind", ["auto", "folder"])
def test_folder(tmp_path: Path, kind: str) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path / "new" / "hf")
    loaded = load_checkpoint(tmp_path / "new" / "hf", kind)
    tokens = made.tokenizer(make_cells(seed=1))
    assert torch.equal(logits(loaded, tokens), logits(made, tokens))
    assert loaded.vocabulary == made.vocabulary == loaded.tokenizer.vocabulary
    assert loaded.tokenizer.schema == made.tokenizer.schema
    assert loaded.model.size == made.model.size
    assert not any(m.training for m in loaded.model.modules())
    assert loaded.report.kind == "folder" and loaded.report.path == str(tmp_path / "new" / "hf")
    assert loaded.report.n_tensors == len(made.model.state_dict())


@pytest.mark.parametrize("kind", ["auto", "lightning"])
def test_lightning(tmp_path: Path, kind: str) -> None:
    made = original()
    save_lightning(made, tmp_path / "any.ckpt")
    loaded = load_checkpoint(tmp_path / "any.ckpt", kind)
    tokens = made.tokenizer(make_cells(seed=1))
    assert torch.equal(logits(loaded, tokens), logits(made, tokens))
    assert loaded.vocabulary == made.vocabulary
    assert loaded.tokenizer.schema == made.tokenizer.schema
    assert loaded.model.size == made.model.size
    assert not any(m.training for m in loaded.model.modules())
    assert loaded.report.kind == "lightning"
    assert loaded.report.n_tensors == len(made.model.state_dict())


@pytest.mark.parametrize("size", VARIANTS.values(), ids=VARIANTS)
def test_whatever_the_model_is_made_of(tmp_path: Path, size: dict[str, Any]) -> None:
    made = original(**size)
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    save_lightning(made, tmp_path / "any.ckpt")
    tokens = made.tokenizer(make_cells(seed=1))
    for name in ("hf", "any.ckpt"):
        loaded = load_checkpoint(tmp_path / name)
        assert loaded.model.size == made.model.size
        assert loaded.model.classified == made.model.classified
        assert torch.equal(logits(loaded, tokens), logits(made, tokens))
    assert len(load_file(tmp_path / "hf" / "model.safetensors")) == len(made.model.state_dict())


def test_switches_of_training_are_not_kept(tmp_path: Path) -> None:
    made = original(checkpoint_activations=True, compile=True)
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    loaded = load_checkpoint(tmp_path / "hf").model
    assert not loaded.checkpoint_activations and not loaded.compiled


def test_checkpoints_of_before_models_had_a_choice(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    known = "model_type cells trained_on dim n_layers n_heads hidden_dim dropout".split()
    known += ["layer_norm_eps", "initial_std"]
    file.write_text(json.dumps({k: config[k] for k in known}))
    tokens = made.tokenizer(make_cells())
    assert torch.equal(logits(load_checkpoint(tmp_path), tokens), logits(made, tokens))


def test_labels_may_be_spelled_otherwise() -> None:
    """Results name labels as the cells do, and the model is not changed by that."""
    made = original()
    layout = Layout(text="ascii")
    rewritten = replace(made.vocabulary, layout=layout)
    made.model.vocabulary = rewritten
    made = replace(made, tokenizer=replace(made.tokenizer, vocabulary=rewritten))
    named = made.spelled_as({"disease": ("Case", "CONTROL")})
    assert named.vocabulary.categories["disease"] == ("Case", "CONTROL")
    assert named.model.vocabulary == named.vocabulary == named.tokenizer.vocabulary
    assert made.model.vocabulary.categories["disease"] == ("case", "control")
    assert named.model.value_embedding is made.model.value_embedding


def test_what_it_was_trained_on_stays_known(tmp_path: Path) -> None:
    made = original(("d0", "d2"))
    save_folder(made.model, made.tokenizer, tmp_path / "hf", made.trained_on)
    save_lightning(made, tmp_path / "any.ckpt")
    for name in ("hf", "any.ckpt"):
        assert load_checkpoint(tmp_path / name).trained_on == ("d0", "d2")
    # Those who do not say leave it open.
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    save_lightning(original(), tmp_path / "any.ckpt")
    for name in ("hf", "any.ckpt"):
        assert load_checkpoint(tmp_path / name).trained_on == ()


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("checkpoints/best.ckpt", "auto", "checkpoints/best.ckpt"),
        ("checkpoints/hf", "auto", "checkpoints/hf/model.safetensors"),
        (".", "auto", "checkpoints/best.ckpt"),
        (".", "lightning", "checkpoints/best.ckpt"),
        (".", "folder", "checkpoints/hf/model.safetensors"),
    ],
)
def test_the_file_with_the_weights(tmp_path: Path, path: str, kind: str, expected: str) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path / "checkpoints" / "hf")
    save_lightning(made, tmp_path / "checkpoints" / "best.ckpt")
    file = weights_file(str(tmp_path / path), kind)
    assert file == tmp_path / expected and file.is_file()


def test_no_file_with_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such checkpoint: .*absent\.ckpt"):
        weights_file(tmp_path / "absent.ckpt")
    (tmp_path / "checkpoints").mkdir()
    for kind, name in (("auto", r"best\.ckpt"), ("folder", "hf")):
        with pytest.raises(CheckpointError, match=f"the run has no {name}"):
            weights_file(tmp_path, kind)


def test_run_folder_gives_its_best_checkpoint(tmp_path: Path) -> None:
    made = original()
    (tmp_path / "checkpoints").mkdir()
    save_lightning(made, tmp_path / "checkpoints" / "best.ckpt")
    loaded = load_checkpoint(str(tmp_path))
    assert loaded.report.path == str(tmp_path / "checkpoints" / "best.ckpt")
    tokens = made.tokenizer(make_cells())
    assert torch.equal(logits(loaded, tokens), logits(made, tokens))


def test_the_tokenizer_reads_the_same_cells(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path)
    loaded = load_checkpoint(tmp_path)
    ours, theirs = loaded.tokenizer(make_adata(seed=2)), made.tokenizer(make_adata(seed=2))
    assert torch.equal(ours.input_ids_nt, theirs.input_ids_nt)
    assert torch.equal(ours.token_type_ids_nt, theirs.token_type_ids_nt)


def test_a_model_saved_before_cells_knew_batches(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["cells"].pop("batch") is None
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    save_lightning(made, tmp_path / "any.ckpt")
    kept = torch.load(tmp_path / "any.ckpt", weights_only=True)
    assert kept["hyper_parameters"]["schema"].pop("batch") is None
    torch.save(kept, tmp_path / "any.ckpt")
    for name in ("hf", "any.ckpt"):
        loaded = load_checkpoint(tmp_path / name)
        assert loaded.tokenizer.schema == made.tokenizer.schema
        assert loaded.tokenizer.schema.batch is None


def test_the_folder_is_readable_without_us(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model.double(), made.tokenizer, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["dim"], config["n_layers"], config["n_heads"]) == (16, 2, 2)
    assert config["architectures"] == ["PhenotypeGeneTransformer"]
    assert config["vocab_size"] == made.vocabulary.n_values
    assert config["type_vocab_size"] == made.vocabulary.n_types
    assert config["cells"]["phenotypes"] == list(PHENOTYPES)
    assert config["cells"]["donor"] == "donor"
    vocabulary = json.loads((tmp_path / "vocabulary.json").read_text())
    assert vocabulary["genes"] == [f"g{i}" for i in range(50)]
    assert vocabulary["bin_edges"] == list(BIN_EDGES)
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors.keys() == made.model.state_dict().keys()
    assert {t.dtype for t in tensors.values()} == {torch.float32}


def test_saving_replaces(tmp_path: Path) -> None:
    first, second = original(), original()
    with torch.no_grad():
        dict(second.model.named_parameters())["head_projector.bias"].add_(1)
    folder = tmp_path / "hf"
    save_folder(first.model, first.tokenizer, folder)
    (folder / "stale.bin").touch()
    save_folder(second.model, second.tokenizer, folder)
    tokens = first.tokenizer(make_cells())
    assert torch.equal(logits(load_checkpoint(folder), tokens), logits(second, tokens))
    assert not (folder / "stale.bin").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["hf"], "nothing is left beside it"


def test_the_genes_may_be_confirmed(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path)
    loaded = load_checkpoint(tmp_path, genes=[f"g{i}" for i in range(50)])
    assert loaded.vocabulary.genes == made.vocabulary.genes
