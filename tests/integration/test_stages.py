"""The stages as commands of their own, and models that come from elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gradgene.commands.attribute import running as attribute_running
from gradgene.commands.attribute import stage as attribute_command
from gradgene.commands.main import main
from tests.integration.tiny import QUICK, contents, progress, read, run_all_stages, words

EXPERIMENT = """# @package _global_
# The tiny study as a file of one's own.
defaults:
  - override /logger: none
study: {name: tiny, target: disease, input: case, baseline: control, match_on: [cell_type],
        donor: donor}
data:
  phenotypes: [disease, cell_type]
  genes: null
  bin_edges: [0.1, 4, 5, 6, 7]
pairs: {max_pairs: 6, max_training_pairs: 6}
"""


@pytest.fixture(scope="module")
def trained(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *words(cells_file, folder)]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained model's folder."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.slow
def test_stages_as_commands_make_a_study(cells_file, tmp_path, no_figures, monkeypatch):
    monkeypatch.setenv("GRADGENE_CACHE", "")  # the study would have all from the commands
    stages, study = tmp_path / "stages", tmp_path / "study"
    run_all_stages(cells_file, stages, *QUICK)
    assert main(["study", *words(cells_file, study, *QUICK)]) == 0
    assert [line["stage"] for line in progress(study)] == [
        *("train", "attribute", "prune", "evaluate")
    ]
    assert [line["key"] for line in progress(study)] == [line["key"] for line in progress(stages)]
    assert contents(stages / "pruning") == contents(study / "pruning")
    assert set(contents(study)) - set(contents(stages)) == {"report.html"}


def test_pruning_needs_attributions(folder, cells_file, refused):
    error = refused("prune", *words(cells_file, folder))
    assert str(folder) in error and "gradgene attribute" in error


def test_evaluating_needs_attributions_and_pruning(folder, cells_file, refused):
    error = refused("evaluate", *words(cells_file, folder))
    assert str(folder) in error and "gradgene attribute" in error and "prune" in error


@pytest.mark.parametrize("command", ["attribute", "prune"])
def test_every_later_stage_needs_a_model(command, cells_file, tmp_path, refused):
    error = refused(command, *words(cells_file, tmp_path / "new"))
    assert "to fix: run `gradgene study` or" in error


@pytest.mark.parametrize("checkpoint", ["checkpoints/best.ckpt", "checkpoints/hf", "."])
def test_a_model_of_another_run(checkpoint, trained, folder, cells_file, tmp_path):
    assert main(["attribute", *words(cells_file, folder)]) == 0
    path = f"checkpoint.path={trained / checkpoint}"
    assert main(["attribute", *words(cells_file, tmp_path / "new", path)]) == 0
    ours, theirs = (
        read(f, "attributions/genes").drop(columns=["model", "config_hash"])
        for f in (tmp_path / "new", folder)
    )
    assert ours.equals(theirs), "the same model, the same cells, the same scores"
    assert not (tmp_path / "new" / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
def test_a_study_of_a_trained_model_trains_nothing(trained, cells_file, tmp_path, no_figures):
    path = f"checkpoint.path={trained / 'checkpoints' / 'hf'}"
    assert main(["study", *words(cells_file, tmp_path / "new", *QUICK, path)]) == 0
    assert not list((tmp_path / "new").rglob("*.ckpt"))
    assert (tmp_path / "new" / "report.html").is_file()


@pytest.mark.parametrize(
    "checkpoint", ["checkpoints/best.ckpt", pytest.param("checkpoints/hf", marks=pytest.mark.slow)]
)
def test_a_model_is_not_judged_on_what_it_was_trained_on(
    checkpoint, trained, cells_file, tmp_path, refused
):
    report = json.loads((trained / "data_report.json").read_text())
    held, other = report["split"].removeprefix("held-out donors ").split(", ")
    learnt = min({f"d{i}" for i in range(6)} - {held, other})
    path = f"checkpoint.path={trained / checkpoint}"
    for command in ("train", "attribute", "study"):
        split = f"data.holdout_donors=[{held},{learnt}]"
        error = refused(command, *words(cells_file, tmp_path / command, path, split))
        assert "checkpoint.path: the model was trained on 1 of the donors" in error
        assert f"judged on: {learnt};" in error
        assert not list((tmp_path / command).rglob("*.parquet"))
    # Fewer donors, but none that it learnt from.
    split = f"data.holdout_donors=[{other}]"
    assert main(["train", *words(cells_file, tmp_path / "fewer", path, split)]) == 0


def test_comparing_the_main_method_with_itself_changes_nothing(folder, cells_file, monkeypatch):
    seen, attribute_pairs = [], attribute_running.attribute_pairs

    def spy(work, settings, cells, plan, split):
        seen.append((split, [one.method.name for one in work.attributions]))
        return attribute_pairs(work, settings, cells, plan, split)

    monkeypatch.setattr(attribute_command, "attribute_pairs", spy)
    line = words(cells_file, folder, "attribution=deeplift")
    assert main(["attribute", *line, "study.compare=[deeplift]"]) == 0
    assert seen == [("test", ["deeplift"]), ("train", ["deeplift"])]
    assert [f.name for f in (folder / "attributions").iterdir() if f.is_dir()] == []
    assert main(["attribute", *line]) == 0
    assert len(seen) == 2, "the same settings, so the stage is skipped"


@pytest.mark.parametrize("name", ["garbage.ckpt", "missing.ckpt", "hf"])
@pytest.mark.parametrize("command", ["attribute", "study"])
def test_a_damaged_or_missing_checkpoint(name, command, trained, cells_file, tmp_path, refused):
    (tmp_path / "garbage.ckpt").write_bytes(b"PK\x03\x04 no archive")
    shutil.copytree(trained / "checkpoints" / "hf", tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").write_bytes(b"short")
    path = f"checkpoint.path={tmp_path / name}"
    assert name in refused(command, *words(cells_file, tmp_path / "new", path))


def test_a_truncated_checkpoint_of_ones_own(folder, cells_file, refused):
    best = folder / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    assert str(best) in refused("attribute", *words(cells_file, folder))


@pytest.mark.slow
def test_a_sweep_over_methods_with_an_experiment_of_ones_own(
    trained, cells_file, tmp_path, monkeypatch, capsys
):
    conf = tmp_path / "conf" / "experiment"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text(EXPERIMENT)
    line = [
        *("attribute", "-m", "--config-dir", str(conf.parent), "experiment=mine"),
        *("attribution=deeplift,grad_x_delta", f"paths.output_dir={tmp_path / 'sweep'}"),
        *(f"data.path={cells_file}", f"checkpoint.path={trained / 'checkpoints' / 'best.ckpt'}"),
    ]
    assert main(line) == 0
    for method in ("deeplift", "grad_x_delta"):
        table = read(tmp_path / "sweep" / f"attribution={method}", "attributions/genes")
        assert set(table["method"]) == {method}
    made = [f.name for f in (tmp_path / "sweep").iterdir() if f.is_dir()]
    assert len([name for name in made if not name.startswith(".")]) == 2
    everything = sorted(str(f) for f in (tmp_path / "sweep").glob("*"))
    assert str(tmp_path / "sweep" / "multirun.yaml") in everything
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert main(["report", *everything]) == 0
    said = capsys.readouterr().out
    assert "2 runs" in said
    rows = [[cell.strip() for cell in line.split("│")[1:]] for line in said.splitlines()]
    assert {"deeplift", "grad_x_delta"} <= {row[0] for row in rows if row}


def test_a_sweep_over_checkpoints_needs_folders_of_their_own(
    trained, cells_file, tmp_path, refused, capsys
):
    checkpoints = trained / "checkpoints"
    both = f"checkpoint.path={checkpoints / 'best.ckpt'},{checkpoints / 'hf'}"
    line = ["-m", "--dry-run", *words(cells_file, tmp_path / "sweep", both)]
    error = refused("attribute", *line)
    assert "checkpoint.path: a sweep over this would put all jobs in one folder" in error
    assert "hydra.sweep.subdir" in error and not (tmp_path / "sweep").exists()
    assert main(["attribute", *line, "hydra.sweep.subdir=${hydra.job.num}"]) == 0
    said = capsys.readouterr().out
    for job in ("0", "1"):
        assert f"results in {tmp_path / 'sweep' / job}\n" in said
