"""What the trackers are told of real stages, read back from what they wrote."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradgene.commands.attribute import stage as attribute_command
from gradgene.commands.main import main
from tests.integration.tiny import QUICK, read, words
from tests.wandb_files import OfflineRun, manifest, nobody, offline_runs

pytestmark = pytest.mark.slow

SECRET = "a1b2c3d4e5f6"
SUBDIR = "hydra.sweep.subdir=${hydra.job.num}"
SWEEP = ("attribution=deeplift,grad_x_delta", "baseline=cell_state,empty")


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path) -> Iterator[None]:
    with nobody(tmp_path):
        yield


@dataclass(frozen=True)
class Swept:
    """A training, and a sweep of attributions and prunings of its model."""

    trained: Path
    folder: Path
    train: OfflineRun
    jobs: list[OfflineRun]

    def of(self, stage: str) -> list[OfflineRun]:
        return [run for run in self.jobs if run.stage == stage]


@pytest.fixture(scope="module")
def swept(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Trained with every logger, then swept with W&B; not to be changed."""
    top = tmp_path_factory.mktemp("swept")
    trained, folder = top / "trained", top / "sweep"
    with nobody(top), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_TOKEN", SECRET)
        loggers = "logger=[wandb,csv,tensorboard]"
        # A credential in the settings: what any tracker is shown must not hold it.
        line = words(cells_file, trained, loggers, f"logger.wandb.notes=by {SECRET}")
        assert main(["train", *line]) == 0
        line = words(cells_file, folder, *QUICK, *SWEEP, "logger=wandb", SUBDIR)
        given = f"checkpoint.path={trained / 'checkpoints' / 'best.ckpt'}"
        for command in ("attribute", "prune"):
            assert main([command, "-m", *line, given]) == 0
    (train,) = offline_runs(trained)
    return Swept(trained, folder, train, offline_runs(folder))


def test_a_sweep_of_attributions_and_prunings_is_one_group(swept):
    assert [run.stage for run in swept.jobs] == ["attribute"] * 4 + ["prune"] * 4
    everything = [swept.train, *swept.jobs]
    assert {run.run.run_group for run in everything} == {"tiny"}
    assert {run.run.project for run in everything} == {"gradgene"}
    assert {tuple(run.run.tags) for run in everything} == {("disease",)}
    assert {run.exit_code for run in everything} == {0}
    names = [run.run.display_name for run in everything]
    assert len(set(names)) == 9 and names[0] == "tiny-train-seed0"
    assert "tiny-prune-seed0-attribution=grad_x_delta,baseline=empty" in names
    assert len({run.run.run_id for run in everything}) == 9
    for run in everything:
        assert run.of("stats"), "system metrics are on"


def test_one_checkpoint_of_a_sweep_is_one_version(swept):
    checkpoint = swept.train.artifacts["checkpoint"]
    assert [*manifest(checkpoint)] == ["best.ckpt"]
    for run in swept.jobs:
        lineage = run.config["lineage"]
        assert lineage[checkpoint.name] == checkpoint.digest
        assert "checkpoint" not in run.artifacts, "only the training logs it"


def test_lineage_leads_from_the_data_to_the_curves(swept):
    (data,) = swept.train.config["lineage"]
    assert data.startswith("dataset-") and "dataset" not in swept.train.artifacts
    made = {}
    for run in swept.of("attribute"):
        attributions = run.artifacts["attributions"]
        assert {data, swept.train.artifacts["checkpoint"].name} == {*run.config["lineage"]}
        assert json.loads(attributions.metadata)["lineage"] == run.config["lineage"]
        assert "attributions/genes.parquet" in manifest(attributions)
        made[str([run.config[key] for key in ("attribution", "baseline")])] = run
    assert len({run.artifacts["attributions"].name for run in made.values()}) == 4
    for run in swept.of("prune"):
        above = made[str([run.config[key] for key in ("attribution", "baseline")])]
        attributions = above.artifacts["attributions"]
        assert run.config["lineage"][attributions.name] == attributions.digest
        assert "pruning/curves.parquet" in manifest(run.artifacts["curves"])
    for run in swept.jobs:
        for artifact in run.artifacts.values():
            for entry in artifact.manifest.contents:
                assert Path(entry.local_path).is_file(), "what `wandb sync` will upload"


def test_settings_and_provenance_without_credentials(swept):
    config = swept.train.config
    assert config["study"]["name"] == "tiny" and config["stage"] == "train"
    assert config["finetune"]["max_epochs"] == 2 and config["attempt"] == 1
    provenance = config["provenance"]
    assert provenance["packages"]["torch"] and provenance["data"]["sha256"]
    assert provenance["device"] == "cpu" and "git" in provenance
    assert provenance["command"][:2] == ["gradgene", "train"]
    assert config["logger"]["wandb"]["notes"] == "by ***"
    tracked = [swept.trained / name for name in ("wandb", "csv", "tensorboard")]
    files = [f for folder in tracked for f in folder.rglob("*") if f.is_file()]
    assert [f for f in files if SECRET.encode() in f.read_bytes()] == []


def test_figures_sort_and_curves_step(swept):
    train, prune = swept.train, swept.of("prune")[0]
    steps = {key for step in train.history for key in step}
    assert {"train/loss", "val/loss", "val/balanced_accuracy", "test/macro_f1"} <= steps
    assert {"stage/train/seconds", "stage/train/peak_memory_mb"} <= steps
    with (swept.trained / "training.csv").open() as file:
        best = min(csv.DictReader(file), key=lambda row: float(row["val/loss"]))
    assert train.summary["val/loss"] == float(best["val/loss"])
    assert train.summary["test/balanced_accuracy"] >= 0
    areas = [name for name in prune.summary if name.startswith("pruning/area/lowest_first/")]
    assert len(areas) == 3, "two rankings, and which of them is the main one"
    assert "pairs/n_pairs" in prune.summary
    removed = [step["pruning/removed"] for step in prune.history if "pruning/removed" in step]
    assert removed == sorted(removed) and removed[0] == 0.0 and len(removed) > 3


def test_tables_and_plots(swept):
    attribute, prune = swept.of("attribute")[0], swept.of("prune")[0]
    assert {"confusion", "test_donors"} <= swept.train.tables
    assert attribute.table("genes")["columns"][0] == "gene"
    table = read(swept.folder / "0", "attributions/genes")
    ranked = table[table["rank"].notna()].sort_values("rank")
    assert [row[0] for row in attribute.table("genes")["data"]] == ranked["gene"].tolist()
    assert len(attribute.table("pairs")["data"]) == 6
    assert len(attribute.table("rankings")["data"]) == 30
    assert {"curves", "areas", "rankings"} <= prune.tables
    plots = {"plots/pruning_lowest_first", "plots/pruning_highest_first"}
    assert plots <= {*prune.config["_wandb"]["visualize"]}


def test_every_logger_writes_into_the_folder_of_the_run(swept):
    (metrics,) = swept.trained.glob("csv/train/version_0/metrics.csv")
    with metrics.open() as file:
        rows = [*csv.DictReader(file)]
    assert any(row["train/loss"] for row in rows) and rows[-1]["test/macro_f1"]
    assert [*swept.trained.glob("tensorboard/train/version_0/events.out.tfevents.*")]
    (line,) = (swept.trained / "wandb" / "runs.jsonl").read_text().splitlines()
    note = json.loads(line)
    assert (note["stage"], note["attempt"], note["mode"]) == ("train", 1, "offline")
    assert note["id"] == swept.train.run.run_id


def test_tensorboard_reads_figures_of_every_stage(swept, cells_file, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = shutil.copytree(
        swept.trained, tmp_path / "run", ignore=shutil.ignore_patterns("wandb")
    )
    line = words(cells_file, folder, *QUICK, "logger=[csv,tensorboard]")
    for command in ("attribute", "prune"):
        assert main([command, *line]) == 0
    for stage, tag in (("train", "val/loss"), ("prune", "pruning/removed")):
        read = EventAccumulator(str(folder / "tensorboard" / stage / "version_0")).Reload()
        assert tag in read.Tags()["scalars"]
        assert len(read.Scalars(tag)) > 1
    with (folder / "csv/attribute/version_0/metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["pairs/n_pairs"]) == 6
    assert not (folder / "wandb").exists()


def test_a_failed_stage_is_seen_to_fail_and_tried_again(
    swept, cells_file, tmp_path, monkeypatch, capsys
):
    folder = shutil.copytree(
        swept.trained, tmp_path / "run", ignore=shutil.ignore_patterns("wandb")
    )
    line = words(cells_file, folder, "logger=[wandb,csv]")

    def broken(*given):
        raise RuntimeError(f"no room for {SECRET}")

    with monkeypatch.context() as patch:
        patch.setenv("SERVICE_TOKEN", SECRET)
        patch.setattr(attribute_command, "attribute_pairs", broken)
        assert main(["attribute", *line]) == 1
    assert main(["attribute", *line]) == 0
    assert main(["attribute", *line]) == 0  # done before, so no run
    failed, done = offline_runs(folder)
    assert (failed.exit_code, done.exit_code) == (1, 0)
    assert failed.summary["error"] == "RuntimeError: no room for ***"
    assert "attributions" not in failed.artifacts and "attributions" in done.artifacts
    assert (failed.config["attempt"], done.config["attempt"]) == (1, 2)
    assert failed.run.run_id != done.run.run_id
    assert (folder / "csv/attribute/version_1/metrics.csv").is_file()
    assert "done before" in capsys.readouterr().out
