"""Each arm trains what it says and nothing else, resumes exactly, and loads as a plain model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gradgene.attribution import Target, build_method
from gradgene.checkpoints import load_checkpoint, save_folder
from gradgene.errors import ConfigError
from gradgene.lit import CellDataModule, FineTuning, MaskedTarget, PhenotypeModule, with_head
from gradgene.lit.finetuning import freeze, prepare
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import predict
from tests.lit.toys import data_module, trainer, write
from tests.planted import make_adata, make_cells, make_model, make_pairs, make_tokenizer

ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "linear_probe": {},
    "last_k": {"last_k": 1},
    "lora": {"lora_rank": 4, "lora_modules": ("q_lin", "v_lin", "lin1")},
}
HEADS = ("masked_slot", "cls")


def finetuning(arm: str, head: str = "masked_slot", **more: Any) -> FineTuning:
    """Settings of an arm for tiny models."""
    return FineTuning(**{"learning_rate": 5e-3, "arm": arm, "head": head, **ARMS[arm], **more})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CellDataModule:
    """200 planted cells of 20 genes, donor d3 held out, random subsets of their genes."""
    file = write(make_adata(n=200, n_genes=20), tmp_path_factory.mktemp("cells"))
    made = data_module(file, train_tokens=12, validation=0.2)
    made.setup()
    return made


def module(data: CellDataModule, finetune: FineTuning, seed: int = 0) -> PhenotypeModule:
    """Two layers with much dropout, so that training depends on every draw."""
    lightning.seed_everything(seed, verbose=False)
    model = PhenotypeGeneTransformer(
        data.tokenizer.vocabulary, dim=16, n_layers=2, n_heads=2, hidden_dim=32, dropout=0.3
    )
    model = with_head(model, finetune.head, data.target)
    return PhenotypeModule(model, data.schema, data.target, finetune, MaskedTarget())


def fit(
    made: PhenotypeModule, data: CellDataModule, epochs: int, folder: Path | None = None
) -> None:
    """Train without files, or from last.ckpt in `folder` and to it."""
    callbacks: list[Any] = []
    last = None
    if folder is not None:
        callbacks = [ModelCheckpoint(folder, filename="best", save_last=True)]
        last = str(folder / "last.ckpt") if (folder / "last.ckpt").is_file() else None
    trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=folder is not None).fit(
        made, data, ckpt_path=last, weights_only=True
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every tensor by its plain name."""
    named = model.state_dict().items()
    return {k.replace(".base_layer.", "."): v.clone() for k, v in named}


EXPECTED: dict[str, Callable[[str], bool]] = {
    "full": lambda name: True,
    "linear_probe": lambda name: False,
    "last_k": lambda name: name.startswith("blocks.1."),
    "lora": lambda name: "lora_" in name,
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arm", ARMS)
def test_what_learns_is_what_the_arm_says(data: CellDataModule, arm: str, head: str) -> None:
    made = module(data, finetuning(arm, head))
    before = weights(made.model)
    fit(made, data, 1)
    after = weights(made.model)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    ours, other = ("head_", "classifier.") if head == "masked_slot" else ("classifier.", "head_")
    for name in after:
        learns = (EXPECTED[arm](name) or name.startswith(ours)) and not name.startswith(other)
        if "lora_" in name:
            assert name not in before
        elif name != "value_embedding.weight":
            assert (name in changed) == learns, name
    assert ("value_embedding.weight" in changed) == (arm == "full")
    trained = {n for n, p in made.model.named_parameters() if p.requires_grad}
    assert any("lora_" in name for name in trained) == (arm == "lora")


def test_a_probe_trains_few_weights_of_a_model_of_base_size() -> None:
    vocabulary = make_tokenizer(make_cells()).vocabulary
    with torch.device("meta"):
        model = PhenotypeGeneTransformer(vocabulary, 768, 12, 12, 3072)
        both = with_head_on_meta(model)
    for head, made in (("masked_slot", model), ("cls", both)):
        prepare(made, finetuning("linear_probe", head))
        count = {True: 0, False: 0}
        for weight in made.parameters():
            count[weight.requires_grad] += weight.numel()
        assert 0 < count[True] < 0.05 * (count[True] + count[False])


def with_head_on_meta(model: PhenotypeGeneTransformer) -> PhenotypeGeneTransformer:
    """The same model with a classifier, without copying weights that are not there."""
    size: dict[str, Any] = {**model.size, "classifier": "disease"}
    return PhenotypeGeneTransformer(model.vocabulary, **size)


@pytest.mark.parametrize("arm", ARMS)
def test_dropout_is_kept_out_of_what_is_fixed(data: CellDataModule, arm: str) -> None:
    made = module(data, finetuning(arm))
    modes: list[dict[str, bool]] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, *of: Any) -> None:
            modes.append({name: m.training for name, m in made.model.named_modules()})

    trainer(max_epochs=2, callbacks=[Watch()]).fit(made, data)
    fixed = {
        "full": [],
        "linear_probe": ["dropout", "blocks.0.dropout", "blocks.1.dropout"],
        "last_k": ["dropout", "blocks.0.dropout"],
        "lora": ["dropout"],
    }[arm]
    dropouts = ["dropout", "blocks.0.dropout", "blocks.1.dropout"]
    for mode in modes:  # also in the second epoch, after validation
        assert [name for name in dropouts if not mode[name]] == fixed
        assert mode[""] and mode["head_norm"]


def test_the_probe_reads_the_same_features_in_every_epoch(data: CellDataModule) -> None:
    made = module(data, finetuning("linear_probe"))
    prepare(made.model, made.finetune)
    made.train()
    freeze(made.model)
    tokens = data.tokenizer.encode(data.part("train").take(np.arange(8)))
    hidden = [made.model.encode(made.model.embed(tokens), tokens.attention_mask_nt) for _ in "ab"]
    assert torch.equal(*hidden)
    made.eval()
    whole = made.model.encode(made.model.embed(tokens), tokens.attention_mask_nt)
    assert torch.equal(hidden[0], whole)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
@pytest.mark.parametrize("schedule", ["constant", "warmup_cosine"])
@pytest.mark.parametrize("arm", ARMS)
def test_resuming_equals_never_stopping(
    data: CellDataModule, arm: str, schedule: str, tmp_path: Path
) -> None:
    """To the last bit, with dropout, also after drawing other numbers in between."""
    settings = finetuning(arm, schedule=schedule, lora_dropout=0.2, max_epochs=3)
    whole = module(data, settings)
    fit(whole, data, 3)

    class Kill(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise KeyError("killed")

    first = module(data, settings)
    checkpoint = ModelCheckpoint(tmp_path, filename="best", save_last=True)
    with pytest.raises(KeyError, match="killed"):
        trainer(max_epochs=3, callbacks=[checkpoint, Kill()], enable_checkpointing=True).fit(
            first, data
        )
    torch.rand(17)
    resumed = module(data, settings, seed=1)
    fit(resumed, data, 3, tmp_path)
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("arm", ARMS)
def test_a_checkpoint_is_a_plain_model(
    data: CellDataModule, arm: str, head: str, tmp_path: Path
) -> None:
    made = module(data, finetuning(arm, head))
    fit(made, data, 2, tmp_path)
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert type(loaded.model) is PhenotypeGeneTransformer
    assert not any("lora" in name for name in loaded.model.state_dict())
    assert loaded.model.classified == (None if head == "masked_slot" else "disease")
    tokens = data.tokenizer.encode(data.part("test"))
    mine = predict(made.model.eval(), tokens, "disease", 10**6).probabilities_nc
    theirs = predict(loaded.model, tokens, "disease", 10**6).probabilities_nc
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(mine), atol=1e-6, rtol=0)
    logits = [
        m.read(m.embed(tokens), tokens.attention_mask_nt, "disease")
        for m in (made.model, loaded.model)
    ]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-6, rtol=1e-6)
    save_folder(loaded.model, loaded.tokenizer, tmp_path / "hf")
    again = load_checkpoint(tmp_path / "hf").model
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    pairs = make_pairs(data.part("test"), tokens, n=4)
    target = Target("disease", "case", "control")
    for method in ("deeplift", "grad_x_delta"):
        found = build_method(method).attribute(loaded.model, pairs, target)
        assert found.forward.scores_pt.abs().sum() > 0
        if method == "deeplift":
            assert float(found.forward.relative_delta_p.max()) < 1e-3


def test_learning_rates_follow_the_schedule(data: CellDataModule) -> None:
    made = module(data, finetuning("full", schedule="warmup_cosine", warmup_share=0.25))
    rates: list[float] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, *of: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_epochs=2, callbacks=[Watch()], accumulate_grad_batches=2).fit(made, data)
    per_epoch = -(-len(data.train_dataloader()) // 2)
    total, warmup = 2 * per_epoch, round(0.25 * 2 * per_epoch)
    changes = [rate for i, rate in enumerate(rates) if i == 0 or rate != rates[i - 1]]
    assert changes[:warmup] == pytest.approx([5e-3 * (i + 1) / warmup for i in range(warmup)])
    assert max(rates) == pytest.approx(5e-3) and len(changes) in (total, total - 1)
    assert changes[warmup:] == sorted(changes[warmup:], reverse=True)


def test_class_weights_reach_the_loss(data: CellDataModule) -> None:
    model = module(data, finetuning("full")).model
    objective = MaskedTarget(class_weights="balanced")
    made = PhenotypeModule(
        model, data.schema, "disease", finetuning("full"), objective, n_cells_c=[30, 10]
    )
    logits_nc, truth_n = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    expected = objective.loss(logits_nc, truth_n, torch.tensor([40 / 60, 40 / 20]))
    assert float(made.loss(logits_nc, truth_n)) == pytest.approx(float(expected))
    assert "weights_c" not in made.state_dict()


def test_a_classifier_is_new_or_kept_or_taken_off() -> None:
    model = make_model(make_tokenizer(make_cells()).vocabulary).float()
    assert with_head(model, "masked_slot", "disease") is model
    classified = with_head(model, "cls", "disease")
    assert classified.classified == "disease"
    assert with_head(classified, "cls", "disease") is classified
    other = with_head(classified, "cls", "cell_type")
    assert other.classified == "cell_type"
    assert other.classifier.projector.out_features == 3
    plain = with_head(classified, "masked_slot", "disease")
    for made in (classified, other, plain):
        state = made.state_dict()
        for name, weight in model.state_dict().items():
            assert torch.equal(state[name], weight)
    assert plain.state_dict().keys() == model.state_dict().keys()


def test_a_model_without_a_head_over_its_ids_needs_the_classifier() -> None:
    vocabulary = make_tokenizer(make_cells()).vocabulary
    model = PhenotypeGeneTransformer(vocabulary, head="none", classifier="disease")
    assert with_head(model, "cls", "disease") is model
    with pytest.raises(ConfigError, match=r"finetune\.head: .* expected cls"):
        with_head(model, "masked_slot", "disease")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "lots"}, "finetune.arm: unknown arm 'lots'"),
        ({"head": "pool"}, "finetune.head: unknown head 'pool'"),
        ({"schedule": "linear"}, "finetune.schedule: unknown schedule 'linear'"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"last_k": 0}, "last_k >= 1"),
        ({"warmup_share": 1.5}, "warmup_share in"),
        ({"lora_rank": 0}, "lora_rank >= 1"),
        ({"lora_dropout": 1.0}, "lora_dropout in"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        FineTuning(**change)


def test_what_the_model_lacks_is_refused() -> None:
    model = make_model(make_tokenizer(make_cells()).vocabulary).float()
    with pytest.raises(ConfigError, match=r"finetune\.last_k: the model has 2 blocks"):
        prepare(model, finetuning("last_k", last_k=3))
    with pytest.raises(ConfigError, match=r"finetune\.lora_modules: .*'query'.*'q_lin'"):
        prepare(model, finetuning("lora", lora_modules=("q_lin", "query")))
    with pytest.raises(ConfigError, match=r"finetune\.lora_modules"):
        prepare(model, finetuning("lora", lora_modules=()))


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(make_tokenizer(make_cells()).vocabulary).float()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'gradgene\[lora\]'"):
        prepare(model, finetuning("lora"))
