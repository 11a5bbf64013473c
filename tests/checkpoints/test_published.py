"""Checkpoints of other programs: found, recognised, read whole, and refused with reasons."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gradgene.checkpoints import CheckpointSource, LoadedModel, load_checkpoint, weights_file
from gradgene.checkpoints.tensor_maps import CAM, DV, PERTURBGENE, POLYGENE_BERT
from gradgene.errors import CheckpointError
from gradgene.tokens import TokenBatch

SPECIAL = "[PAD] [MASK] [SEP] [CLS] [UNK] [START] [END]".split()
MISSING = "[no_sex] [no_tissue] [no_cell_type] [no_age] [no_disease]".split()
LABELS = {
    "sex_types.txt": ["female", "male"],
    "tissue_types.txt": ["liver", "skin of body"],
    "cell_types.txt": ["T cell", "B cell", "NK cell"],
    "age_types.txt": ["child stage"],
    "disease_types.txt": ["normal", "lung cancer"],
}
GENES = [f"G{i}" for i in range(10)]
N_BINS = 4


def write_vocabulary(folder: Path) -> int:
    """PolyGene-BERT's vocabulary folder; the number of its tokens."""
    folder.mkdir(parents=True)
    tokens = [*SPECIAL, *MISSING]
    for name, labels in LABELS.items():
        texts = [f"[{label.replace(' ', '_')}]" for label in labels]
        (folder / name).write_text("\n".join(labels) + "\n")
        tokens += texts
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return len(tokens)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The folder of a run in PolyGene-BERT's format, written by Hugging Face, and its model."""
    transformers = pytest.importorskip("transformers")
    run = tmp_path_factory.mktemp("bert")
    n_tokens = write_vocabulary(run / "phenotypic_vocab")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=n_tokens + N_BINS,
        max_position_embeddings=len(GENES) + 8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        initializer_range=0.3,
        layer_norm_eps=1e-3,
        architectures=["GeneBertForMaskedLM"],
    )
    model = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.3)
    model.config.architectures = ["GeneBertForMaskedLM"]
    model.save_pretrained(run / "checkpoint-200")
    return run, model


@pytest.fixture
def run(bert: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(bert[0], tmp_path / "run"))


def tokens(n: int = 6, n_values: int = 26) -> TokenBatch:
    """Random ids at every position, some genes unattended."""
    draw = torch.Generator().manual_seed(1)
    length = len(GENES) + 8
    mask_nt = torch.rand(n, length, generator=draw) < 0.7
    mask_nt[:, :7] = mask_nt[:, -1] = True
    return TokenBatch(
        torch.randint(0, n_values, (n, length), generator=draw),
        torch.arange(length).expand(n, length),
        mask_nt,
        torch.full((n, length), -1),
    )


def logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = loaded.model(tokens()).logits_ntv
    return found


def test_ours_says_what_hugging_faces_bert_says(bert: tuple[Path, Any]) -> None:
    run, theirs = bert
    loaded = load_checkpoint(run / "checkpoint-200", genes=GENES)
    batch = tokens()
    with torch.no_grad():
        wanted = theirs(
            input_ids=batch.input_ids_nt, attention_mask=batch.attention_mask_nt.long()
        ).logits
    seen = batch.attention_mask_nt
    torch.testing.assert_close(logits(loaded)[seen], wanted[seen], atol=2e-5, rtol=1e-5)
    assert wanted[seen].std() > 0.3
    assert loaded.report.kind == "polygene_bert" and loaded.vocabulary.genes == tuple(GENES)
    assert loaded.trained_on == () and not loaded.model.training


@pytest.mark.parametrize(
    "path", ["", "checkpoint-200", "checkpoint-200/", "checkpoint-200/model.safetensors"]
)
def test_a_run_and_what_is_in_it_are_the_same_checkpoint(run: Path, path: str) -> None:
    given = f"{run}/{path}"
    assert Path(load_checkpoint(given, genes=GENES).report.path).name == "checkpoint-200"
    assert weights_file(given) == run / "checkpoint-200" / "model.safetensors"


def test_the_newest_checkpoint_of_a_run_by_number(run: Path) -> None:
    """As text, 200 comes behind 1000."""
    for name in ("checkpoint-1000", "checkpoint-30", "checkpoint-9999-best"):
        shutil.copytree(run / "checkpoint-200", run / name)
    file = run / "checkpoint-1000" / "model.safetensors"
    tensors = load_file(file)
    tensors["cls.predictions.bias"] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    newest = load_checkpoint(run, genes=GENES)
    assert newest.report.path == str(run / "checkpoint-1000")
    older = load_checkpoint(run / "checkpoint-200", genes=GENES)
    torch.testing.assert_close(logits(newest), logits(older) + 1, atol=1e-5, rtol=0)


def as_bin(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda tensors: tensors) -> None:
    """Rewrite the weights as an older program would."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(change(tensors), folder / "pytorch_model.bin")


def test_an_older_file_of_weights(run: Path) -> None:
    """With the tied weights and the buffer that it holds besides."""
    before = logits(load_checkpoint(run, genes=GENES))

    def more(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["cls.predictions.decoder.weight"] = tensors[
            "bert.embeddings.word_embeddings.weight"
        ]
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
        tensors["bert.embeddings.position_ids"] = torch.arange(18)[None]
        return tensors

    as_bin(run / "checkpoint-200", more)
    assert torch.equal(logits(load_checkpoint(run, genes=GENES)), before)
    assert weights_file(run) == run / "checkpoint-200" / "pytorch_model.bin"


def refusal(path: Path | str, **more: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **{"genes": GENES, **more})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_code_in_a_file_of_weights_is_not_run(run: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    as_bin(run / "checkpoint-200", lambda tensors: {**tensors, "more": Hostile()})
    assert "pytorch_model.bin: cannot be read as weights" in refusal(run)
    assert not (tmp_path / "executed").exists()
    torch.load(run / "checkpoint-200" / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "executed").exists(), "the payload is live"


def test_a_file_of_something_else(run: Path) -> None:
    as_bin(run / "checkpoint-200", lambda _: [1, 2])
    assert "holds no weights" in refusal(run)


def test_damaged_weights(run: Path) -> None:
    file = run / "checkpoint-200" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    assert f"{file}: cannot be read" in refusal(run)
    file.unlink()
    assert "holds no model.safetensors or pytorch_model.bin" in refusal(run)


def changed(run: Path, change: Callable[[dict[str, Tensor]], Any]) -> str:
    """What is said of the run with other tensors."""
    file = run / "checkpoint-200" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return refusal(run)


def test_missing_and_unknown_tensors_are_listed(run: Path) -> None:
    def lose(tensors: dict[str, Tensor]) -> None:
        del tensors["cls.predictions.bias"]
        del tensors["bert.encoder.layer.1.output.dense.weight"]

    message = changed(run, lose)
    assert "2 tensors are missing" in message
    assert "cls.predictions.bias" in message
    assert "bert.encoder.layer.1.output.dense.weight" in message


def test_unknown_tensors_are_listed(run: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors["bert.pooler.dense.weight"] = torch.ones(2)
        tensors["bert.encoder.layer.2.output.dense.weight"] = torch.ones(2)

    message = changed(run, add)
    assert "2 tensors have no place in the model" in message
    assert "bert.pooler.dense.weight" in message
    assert "bert.encoder.layer.2.output.dense.weight" in message


def test_a_long_list_is_cut(run: Path) -> None:
    def add(tensors: dict[str, Tensor]) -> None:
        tensors.update({f"extra.{i:02d}": torch.ones(1) for i in range(30)})

    message = changed(run, add)
    assert "30 tensors" in message and "extra.11 and 18 more" in message


def test_a_second_copy_that_says_something_else(run: Path) -> None:
    def untie(tensors: dict[str, Tensor]) -> None:
        copy = tensors["bert.embeddings.word_embeddings.weight"].clone()
        copy[0, 0] += 1
        tensors["cls.predictions.decoder.weight"] = copy

    assert "should be one tensor and differ" in changed(run, untie)


def test_tensors_of_another_size(run: Path) -> None:
    def shrink(tensors: dict[str, Tensor]) -> None:
        name = "bert.embeddings.position_embeddings.weight"
        tensors[name] = tensors[name][:-1].clone()

    assert "identity_embedding.weight" in changed(run, shrink)


@pytest.mark.parametrize(
    "lost",
    ["bert.embeddings.token_type_embeddings.weight", "bert.embeddings.position_embeddings.weight"],
)
def test_both_embeddings_that_are_added_are_needed(run: Path, lost: str) -> None:
    assert "position and token type embeddings" in changed(run, lambda t: t.pop(lost))


def test_configurations_that_do_not_fit(run: Path) -> None:
    file = run / "checkpoint-200" / "config.json"
    config = json.loads(file.read_text())
    for text, said in (
        ("{", "cannot be read"),
        ("[]", "is not a JSON object"),
        (json.dumps({**config, "model_type": "gpt2"}), "of no known kind.*'gpt2'"),
        (
            json.dumps({k: v for k, v in config.items() if k != "hidden_size"}),
            "lacks 'hidden_size'",
        ),
        (json.dumps({**config, "hidden_act": "gelu_new"}), "unknown activation 'gelu_new'"),
        (json.dumps({**config, "num_attention_heads": 3}), "cannot be shared by 3 heads"),
    ):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(run, genes=GENES)


def test_gene_names_are_asked_for(run: Path) -> None:
    message = refusal(run, genes=None)
    assert "holds no gene names" in message and "10 gene names" in message
    assert "10 gene names" in refusal(run, genes=GENES[:-1])


def test_genes_from_a_file(run: Path, tmp_path: Path) -> None:
    names = tmp_path / "genes.txt"
    names.write_text("\n".join(GENES) + "\n\n")
    loaded = CheckpointSource(str(run), genes=str(names)).load()
    assert loaded.vocabulary.genes == tuple(GENES)
    for text, said in (("", "names no gene"), ("G1\nG2\nG1\n", "names G1 twice")):
        names.write_text(text)
        with pytest.raises(CheckpointError, match=rf"checkpoint\.genes: .*{said}"):
            CheckpointSource(str(run), genes=str(names)).load()
    with pytest.raises(CheckpointError, match=r"checkpoint\.genes: no such gene list.*absent"):
        CheckpointSource(str(run), genes=str(tmp_path / "absent.txt")).load()
    with pytest.raises(CheckpointError, match="no checkpoint is named"):
        CheckpointSource().load()


def test_one_kind_is_not_read_as_another(run: Path) -> None:
    for kind in ("perturbgene", "polygene_cam", "polygene_dv", "folder"):
        assert str(run) in refusal(run, kind=kind)
    assert "unknown kind 'bert'" in refusal(run, kind="bert")


def test_maps_name_every_tensor_once() -> None:
    for tensor_map in (PERTURBGENE, CAM, DV, POLYGENE_BERT):
        names = tensor_map.names(3)
        assert len(set(names.values())) == len(names)
        assert not {*tensor_map.copies} & {*names.values()}


def fixture_copy(shared: Path, tmp_path: Path, name: str) -> Path:
    return Path(shutil.copytree(shared / "fixtures" / name, tmp_path / "copy"))


def genes_of(shared: Path) -> list[str]:
    file = shared / "fixtures" / "perturbgene" / "expected_vocab.json"
    return [*json.loads(file.read_text())["gene_order"]]


def test_classes_without_names_can_only_be_read_as_such(shared: Path) -> None:
    loaded = load_checkpoint(
        shared / "fixtures" / "perturbgene" / "run_cls", genes=genes_of(shared)
    )
    assert loaded.model.size["n_classes"] == 5 and loaded.model.classified is None


def test_named_classes_are_put_in_the_order_of_the_labels(shared: Path, tmp_path: Path) -> None:
    """In `id2label` they may stand in any order and spelling; the logits follow their labels."""
    run = fixture_copy(shared, tmp_path, "perturbgene/run_cls")
    folder = run / "checkpoint-1000"
    tensors = load_file(folder / "model.safetensors")
    tensors = {k: v[:3].clone() if k.startswith("classifier") else v for k, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "unknown", "1": "[male]", "2": "female"}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load_checkpoint(run, genes=genes_of(shared))
    assert loaded.model.classified == "sex"
    labels = loaded.vocabulary.categories["sex"]
    bias_c = dict(loaded.model.named_parameters())["classifier.projector.bias"]
    for i, name in ((0, "unknown"), (1, "male"), (2, "female")):
        assert bias_c[labels.index(name)] == tensors["classifier.bias"][i]


@pytest.mark.parametrize("change", [{"unit_sphere_constraint": False}, {"head_hidden_layers": 1}])
def test_heads_that_nobody_published(shared: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    run = fixture_copy(shared, tmp_path, "polygene_dv/run")
    file = run / "checkpoint-1000" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert "only heads on the unit sphere" in refusal(run, genes=None)


def test_an_untied_head_on_the_sphere(shared: Path, tmp_path: Path) -> None:
    run = fixture_copy(shared, tmp_path, "polygene_dv/run")
    tied = load_checkpoint(run)
    file = run / "checkpoint-1000" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tied": False}))
    untied = load_checkpoint(run)
    assert not untied.model.size["tied"]
    hidden_nd = torch.randn(4, 36, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(untied.model.head(hidden_nd), tied.model.head(hidden_nd))


@pytest.mark.parametrize(
    "changed",
    [
        {"num_hidden_layers": "2"},
        {"num_attention_heads": 0},
        {"hidden_size": -16},
        {"hidden_size": 1 << 50},
        {"hidden_dropout_prob": 5},
        {"architectures": 5, "model_type": "none"},
    ],
)
def test_a_configuration_of_no_model(
    bert: tuple[Path, Any], tmp_path: Path, changed: dict[str, Any]
) -> None:
    run, _ = bert
    shutil.copytree(run, tmp_path / "run")
    (file,) = (tmp_path / "run").rglob("config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file.parent, genes=GENES)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)
