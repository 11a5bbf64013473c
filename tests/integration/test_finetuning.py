"""Studies that begin with a trained model, by every arm, and what is refused of such models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.checkpoints import load_checkpoint, save_folder
from gradgene.commands.main import main
from gradgene.tokens import Layout
from tests.integration.tiny import QUICK, contents, progress, read, words, write_cells
from tests.planted import make_cells, make_model, make_tokenizer

#: Enough to learn the planted label of 120 cells.
LEARNING = ("finetune.max_epochs=15", "finetune.learning_rate=0.005", "data.batch_size=16")


@pytest.fixture(scope="module")
def pretrained(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that learnt the planted label, not to be changed."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    assert main(["train", *words(cells_file, folder, *LEARNING)]) == 0
    return folder


def beginning(data: Path, folder: Path, model: Path, *more: str) -> list[str]:
    """The words of a study that begins with a model."""
    line = words(data, folder, "model=pretrained", f"model.path={model}", *more)
    return [word for word in line if not word.startswith(("model.dim", "model.n_", "model.hidden"))]


#: Every arm, every head; tests/lit/test_finetuning.py trains each with each.
ARMS_AND_HEADS = [
    pytest.param("full", "cls", marks=pytest.mark.slow),
    pytest.param("linear_probe", "masked_slot", marks=pytest.mark.slow),
    pytest.param("last_k", "cls", marks=pytest.mark.slow),
    pytest.param("lora", "cls", marks=pytest.mark.slow),
    ("lora", "masked_slot"),
]


@pytest.mark.parametrize(("arm", "head"), ARMS_AND_HEADS)
def test_every_arm_trains_attributes_and_prunes(arm, head, pretrained, cells_file, tmp_path):
    line = beginning(
        cells_file,
        tmp_path,
        pretrained,
        *QUICK,
        f"finetune={arm}",
        f"finetune.head={head}",
        "finetune.learning_rate=0.005",
    )
    for command in ("train", "attribute", "prune"):
        assert main([command, *line]) == 0, command
    first, ours = load_checkpoint(pretrained), load_checkpoint(tmp_path)
    assert ours.vocabulary == first.vocabulary
    assert ours.trained_on == first.trained_on
    before, after = first.model.state_dict(), ours.model.state_dict()
    encoder = ("value_embedding", "identity_embedding", "embedding_norm", "blocks")
    same = {k: before[k].equal(after[k]) for k in before if k.startswith(encoder)}
    if arm == "linear_probe":
        assert all(same.values()), "the encoder is what it was, to the last bit"
    elif arm == "full":
        assert not any(same.values())
    elif arm == "last_k":
        assert all(same[k] != k.startswith("blocks.1.") for k in same)
    else:
        changed = {k for k in same if not same[k]}
        assert changed == {f"blocks.{i}.attention.{n}_lin.weight" for i in (0, 1) for n in "qv"}
    assert (ours.model.classified == "disease") == (head == "cls")
    hf = load_checkpoint(tmp_path / "checkpoints" / "hf")
    assert hf.model.state_dict().keys() == after.keys()
    ledger = read(tmp_path, "attributions/pairs")
    assert len(ledger) == 6 and (ledger["relative_delta"] <= 1e-3).all()
    assert read(tmp_path, "attributions/genes")["score"].abs().max() > 0


def test_beginning_with_a_model_helps(pretrained, cells_file, tmp_path):
    fresh, begun = tmp_path / "fresh", tmp_path / "begun"
    assert main(["train", *words(cells_file, fresh, "finetune.max_epochs=1")]) == 0
    line = beginning(cells_file, begun, pretrained / "checkpoints" / "hf", "finetune.max_epochs=1")
    assert main(["train", *line]) == 0
    losses = [pd.read_csv(f / "training.csv")["val/loss"].iloc[0] for f in (fresh, begun)]
    assert losses[1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_study_begun_with_a_model_is_skipped_and_refused_like_any(
    pretrained, cells_file, tmp_path, no_figures, refused
):
    model = shutil.copytree(pretrained, tmp_path / "model")
    line = ["study", *beginning(cells_file, tmp_path / "run", model, *QUICK)]
    assert main(line) == 0
    assert [entry["stage"] for entry in progress(tmp_path / "run")] == [
        "train",
        "attribute",
        "prune",
        "evaluate",
    ]
    (model / "report.html").write_text("remade")  # nothing that the training stands on
    before = contents(tmp_path / "run")
    assert main(line) == 0
    assert contents(tmp_path / "run") == before
    best = model / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes())  # another time of writing, and the same model
    assert main(line) == 0
    content = torch.load(best, weights_only=True)
    content["state_dict"]["model.identity_embedding.weight"] *= 1.01
    torch.save(content, best)
    assert "other settings" in refused(*line)


def test_donors_cannot_be_left_out_to_judge_on_what_was_learnt(
    pretrained, cells_file, tmp_path, refused
):
    """Without donors the held-out cells would be those of donors that the model has seen."""
    line = words(cells_file, tmp_path / "run", f"checkpoint.path={pretrained}", "study.donor=null")
    assert "study.donor: the model knows which donors" in refused("attribute", *line)
    begun = beginning(cells_file, tmp_path / "run", pretrained, "study.donor=null")
    assert "set study.donor=donor" in refused("train", *begun)


def test_a_model_is_not_judged_on_what_it_began_with(pretrained, cells_file, tmp_path, refused):
    report = json.loads((pretrained / "data_report.json").read_text())
    held, other = report["split"].removeprefix("held-out donors ").split(", ")
    learnt = min({f"d{i}" for i in range(6)} - {held, other})
    split = f"data.holdout_donors=[{held},{learnt}]"
    for command in ("train", "study"):
        folder = tmp_path / command
        error = refused(command, *beginning(cells_file, folder, pretrained, split))
        assert "model.path: the model was trained on 1 of the donors" in error
        assert f"judged on: {learnt};" in error
        assert not list(folder.rglob("*.ckpt"))
    # It learns from another donor now: both are remembered.
    split = f"data.holdout_donors=[{held}]"
    folder = tmp_path / "fewer"
    assert main(["train", *beginning(cells_file, folder, pretrained, split)]) == 0
    before, after = (set(load_checkpoint(f).trained_on) for f in (pretrained, folder))
    assert after == before | {other}


def test_donors_that_only_the_first_training_saw_are_not_judged_on(
    pretrained, cells_file, tmp_path, refused
):
    def rename(adata):
        adata.obs["donor"] = "new " + adata.obs["donor"].astype(str)

    others, folder = write_cells(tmp_path / "others.h5ad", rename), tmp_path / "run"
    assert main(["train", *beginning(others, folder, pretrained, "finetune.max_epochs=1")]) == 0
    first, ours = (set(load_checkpoint(f).trained_on) for f in (pretrained, folder))
    assert first < ours and {donor.startswith("new ") for donor in ours - first} == {True}
    learnt = min(first)
    more = (f"checkpoint.path={folder}", f"data.holdout_donors=[{learnt}]")
    for command in ("train", "attribute"):
        error = refused(command, *words(cells_file, tmp_path / "judged", *more))
        assert "checkpoint.path: the model was trained on 1 of the donors" in error
        assert f"judged on: {learnt};" in error


@pytest.fixture
def relabelled(tmp_path: Path) -> Path:
    """The cells, a tenth of them with a label that the pretrained model has not met."""

    def relabel(adata):
        disease = adata.obs["disease"].astype(str)
        disease.iloc[::10] = "relapse"
        adata.obs["disease"] = disease

    return write_cells(tmp_path / "relabelled.h5ad", relabel)


@pytest.mark.parametrize(("head", "arm"), [("masked_slot", "lora"), ("cls", "linear_probe")])
def test_new_labels_are_learnt_and_said(head, arm, relabelled, pretrained, tmp_path, capsys):
    folder = tmp_path / "run"
    more = (f"finetune={arm}", f"finetune.head={head}", "finetune.max_epochs=1")
    assert main(["train", *beginning(relabelled, folder, pretrained, *more)]) == 0
    said = "Labels new to the pretrained model, which learns them from scratch: disease: relapse."
    assert said in capsys.readouterr().out.replace("\n", " ")
    assert said in json.loads((folder / "data_report.json").read_text())["notes"]
    for checkpoint in (folder, folder / "checkpoints" / "hf"):
        loaded = load_checkpoint(checkpoint)
        assert loaded.vocabulary.categories["disease"] == ("case", "control", "relapse")


@pytest.fixture(scope="module")
def rewriting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that rewrites labels, as published ones do: "X-1" and "X 1" are one token to it."""
    cells = make_cells(120, 30)
    tokenizer = make_tokenizer(cells)
    vocabulary = replace(tokenizer.vocabulary, layout=Layout(text="ascii"))
    folder = tmp_path_factory.mktemp("rewriting") / "model"
    model = make_model(vocabulary).float()
    save_folder(model, replace(tokenizer, vocabulary=vocabulary), folder)
    return folder


def respell(adata):
    """Cases are called in two ways that such a model does not tell apart."""
    disease = adata.obs["disease"].astype(str)
    spelled = np.resize(["X 1", "X-1"], len(disease))
    adata.obs["disease"] = disease.where(disease != "case", pd.Series(spelled, disease.index))


def test_new_labels_of_one_token_are_called_as_the_study_calls_them(rewriting, tmp_path, refused):
    data = write_cells(tmp_path / "respelled.h5ad", respell)
    phenotypes = ("data.phenotypes=[disease,cell_type,sex]", "finetune.max_epochs=1")
    contrast = ("study.input=X-1", "study.baseline=control")
    line = beginning(data, tmp_path / "run", rewriting, *phenotypes, *contrast)
    assert main(["train", *line]) == 0
    vocabulary = load_checkpoint(tmp_path / "run").vocabulary
    assert vocabulary.categories["disease"] == ("case", "control", "X-1")
    contrast = ("study.input=X-1", "study.baseline='X 1'")
    line = beginning(data, tmp_path / "none", rewriting, *phenotypes, *contrast)
    assert "study.baseline: the model has the one token [x_1] for both" in refused("train", *line)


def test_a_finished_model_cannot_learn_labels(relabelled, pretrained, tmp_path, refused):
    line = words(relabelled, tmp_path / "run", f"checkpoint.path={pretrained}")
    error = refused("train", *line)
    assert "checkpoint.path: the model does not know 1 of the labels of 'disease': relapse" in error
    assert "model=pretrained" in error


def test_a_target_that_the_model_does_not_read_gets_a_slot(pretrained, cells_file, tmp_path):
    other = ("study.target=sex", "study.input=male", "study.baseline=female")
    more = (*other, "data.phenotypes=[disease,cell_type,sex]", "finetune.max_epochs=1")
    assert main(["train", *beginning(cells_file, tmp_path / "run", pretrained, *more)]) == 0
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.vocabulary.phenotypes == ("disease", "cell_type", "sex")


def test_no_model_to_begin_with(cells_file, tmp_path, refused):
    absent = tmp_path / "absent"
    for command in ("train", "study"):
        error = refused(command, *beginning(cells_file, tmp_path / "run", absent))
        assert "model.path: no such checkpoint" in error and str(absent) in error


def test_an_arm_without_a_trained_model_is_said(cells_file, tmp_path, capsys):
    line = words(cells_file, tmp_path, "finetune=linear_probe", "finetune.max_epochs=1")
    assert main(["train", *line]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "finetune.arm=linear_probe keeps weights fixed that are random" in said


def test_judgement_is_by_donor_and_label_and_calibrated(pretrained, cells_file):
    found = json.loads((pretrained / "metrics.json").read_text())
    donors, table = read(pretrained, "test_donors"), read(pretrained, "confusion")
    report = json.loads((pretrained / "data_report.json").read_text())
    assert ", ".join(donors["donor"]) == report["split"].removeprefix("held-out donors ")
    assert donors["n_cells"].sum() == table["n_cells"].sum() == found["test/n_cells"]
    right = table[table["truth"] == table["predicted"]]["n_cells"].sum()
    assert right / found["test/n_cells"] == pytest.approx(found["test/accuracy"])
    mean = (donors["accuracy"] * donors["n_cells"]).sum() / donors["n_cells"].sum()
    assert mean == pytest.approx(found["test/accuracy"])
    for label in ("case", "control"):
        of_label = table.loc[table["truth"] == label, "n_cells"].sum()
        assert donors[f"n_cells/{label}"].sum() == of_label
    calibration = json.loads((pretrained / "checkpoints" / "calibration.json").read_text())
    assert found["calibration/temperature"] == calibration["temperature"] > 0
    assert calibration["nll_after"] <= calibration["nll_before"]
    assert found["calibration/ece_before"] == found["test/ece"]
    assert 0.5 < found["test/auroc"] == pytest.approx(found["test/contrast_auroc"])


@pytest.mark.slow
def test_the_temperature_is_of_validation_cells_alone(cells_file, tmp_path):
    """Test cells with labels turned around are judged worse, and change no temperature."""
    turned = write_cells(tmp_path / "turned.h5ad", turn_test_labels)
    temperatures, accuracies = [], []
    for name, data in (("as_is", cells_file), ("turned", turned)):
        line = words(data, tmp_path / name, "data.holdout_donors=[d0,d1]")
        assert main(["train", *line, "finetune.max_epochs=4"]) == 0
        found = json.loads((tmp_path / name / "metrics.json").read_text())
        temperatures.append(found["calibration/temperature"])
        accuracies.append(found["test/accuracy"])
    assert temperatures[0] == temperatures[1]
    assert accuracies[1] == pytest.approx(1 - accuracies[0])


def turn_test_labels(adata):
    """Exchange the labels of the cells of d0 and d1."""
    other = {"case": "control", "control": "case"}
    held = adata.obs["donor"].isin(["d0", "d1"])
    labels = adata.obs["disease"].astype(str)
    adata.obs["disease"] = labels.where(~held, labels.map(other))


@pytest.mark.slow
def test_stopping_early(pretrained, cells_file, tmp_path):
    line = beginning(
        cells_file,
        tmp_path,
        pretrained,
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=2",
        "finetune.max_epochs=60",
        "finetune.learning_rate=0.02",
    )
    assert main(["train", *line]) == 0
    losses = pd.read_csv(tmp_path / "training.csv")["val/loss"]
    assert 3 <= len(losses) < 60
    assert losses.idxmin() == len(losses) - 3, "two epochs without a lower loss"


@pytest.mark.slow
def test_how_it_is_trained_by_configuration(cells_file, tmp_path):
    """bf16, accumulation, class weights, smoothing and a schedule together; read in float32."""
    line = words(
        cells_file,
        tmp_path,
        "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2",
        "trainer.gradient_clip_val=0.5",
        "objective.class_weights=balanced",
        "objective.label_smoothing=0.05",
        "finetune.schedule=warmup_cosine",
        "finetune.max_epochs=4",
        *QUICK,
    )
    for command in ("train", "attribute"):
        assert main([command, *line]) == 0, command
    weights = load_checkpoint(tmp_path).model.state_dict()
    assert {w.dtype for w in weights.values()} == {torch.float32}
    ledger = read(tmp_path, "attributions/pairs")
    assert (ledger["relative_delta"] <= 1e-4).all(), "attributed in float32"
    assert np.isfinite(pd.read_csv(tmp_path / "training.csv")).all(axis=None)


def test_float16_needs_a_gpu(cells_file, tmp_path, refused):
    error = refused("train", *words(cells_file, tmp_path / "run", "trainer.precision=16-mixed"))
    assert "trainer.precision" in error and "bf16-mixed" in error


@pytest.mark.slow
def test_full_is_as_good_as_a_probe(cells_file, tmp_path):
    """Spec 3, T8: on planted cells full fine-tuning is not worse than the probe by over 0.02."""
    first = tmp_path / "first"
    assert main(["train", *words(cells_file, first, "finetune.max_epochs=3")]) == 0
    accuracy = {}
    for arm in ("linear_probe", "full"):
        line = beginning(cells_file, tmp_path / arm, first, f"finetune={arm}", *LEARNING)
        assert main(["train", *line]) == 0
        accuracy[arm] = json.loads((tmp_path / arm / "metrics.json").read_text())["test/accuracy"]
    assert accuracy["full"] >= accuracy["linear_probe"] - 0.02
    assert accuracy["full"] > 0.9
