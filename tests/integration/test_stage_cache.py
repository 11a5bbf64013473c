"""Runs share their stages: what one has computed another takes, and only that."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import fsspec.implementations.local
import pandas as pd
import pytest
import torch

from gradgene.commands.main import main
from gradgene.commands.run import stage_cache as stage_cache_module
from gradgene.commands.train import stage as train_command
from gradgene.lit import PhenotypeModule
from tests.integration.tiny import QUICK, contents, progress, read, words, write_cells
from tests.wandb_files import nobody, offline_runs

#: The few pairs that a report shows are explained again, in one batch.
SHOWN = {"explained": 1}
FINISHED = ("train", "attribute", "prune")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a model was fitted, pairs explained, and pieces of a pruning predicted."""
    count: Counter[str] = Counter()

    def counted(owner: Any, name: str, what: str) -> None:
        before = getattr(owner, name)

        def call(*given: Any, **more: Any) -> Any:
            count[what] += 1
            return before(*given, **more)

        monkeypatch.setattr(owner, name, call)

    counted(train_command, "fit", "fits")
    counted(PhenotypeModule, "predict_step", "explained")
    counted(import_module("gradgene.pruning.predict"), "_predicted", "pruned")
    return count


@pytest.fixture(scope="module")
def filled(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three stages in `run` and the cache it filled in `cache`, not to be changed."""
    place = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADGENE_CACHE", str(place / "cache"))
        for command in FINISHED:
            assert main([command, *words(cells_file, place / "run", *QUICK)]) == 0
    return place


@pytest.fixture
def cache(filled: Path, stage_cache: Path) -> Path:
    """A copy of the filled cache, for this test."""
    shutil.copytree(filled / "cache", stage_cache)
    return stage_cache


def from_cache(folder: Path) -> dict[str, bool]:
    """Stage -> whether it came from the cache."""
    return {line["stage"]: line.get("from_cache", False) for line in progress(folder)}


def pruning_of(folder: Path) -> dict[str, bytes]:
    """Tables of a pruning."""
    return contents(folder / "pruning")


def test_a_fresh_folder_takes_every_stage(cache, filled, cells_file, tmp_path, done, capsys):
    """The upstream stages as well, which are not asked for."""
    folder = tmp_path / "new"
    assert main(["prune", *words(cells_file, folder, *QUICK, "study.name=other")]) == 0
    assert not done
    assert from_cache(folder) == dict.fromkeys(FINISHED, True)
    assert f"train: from the cache (made by {filled / 'run'})" in capsys.readouterr().out
    for part in ("checkpoints", "attributions", "pruning"):
        assert contents(folder / part) == contents(filled / "run" / part), part
    ours, theirs = (json.loads((f / "metrics.json").read_text()) for f in (folder, filled / "run"))
    assert ours == theirs and any(name.startswith("pruning/") for name in ours)
    said = json.loads((folder / "provenance.json").read_text())
    assert said["checkpoint"]["path"] == str(folder / "checkpoints" / "best.ckpt")


@pytest.mark.slow
def test_trackers_are_told_of_what_came_from_the_cache(cache, filled, cells_file, tmp_path, done):
    """Each stage once, with its figures, tables and artifacts, on which later runs' lineage is."""
    folder = tmp_path / "new"
    with nobody(tmp_path):
        for _ in range(2):  # the second time all is done, which is no new run
            assert main(["prune", *words(cells_file, folder, *QUICK, "logger=[wandb,csv]")]) == 0
    assert not done
    runs = offline_runs(folder)
    assert [run.stage for run in runs] == [*FINISHED]
    train, attribute, prune = runs
    assert {(*run.run.tags, run.config["from_cache"]) for run in runs} == {
        ("disease", "cached", str(filled / "run"))
    }
    assert "confusion" in train.tables and train.summary["test/balanced_accuracy"] >= 0
    ranked = read(folder, "attributions/genes")["rank"].notna().sum()
    assert len(attribute.table("genes")["data"]) == ranked > 0
    assert any("pruning/removed" in step for step in prune.history)
    made = {one.name for run in runs for one in run.artifacts.values()}
    assert len(made) == 3
    assert {*prune.config["lineage"]} == made - {prune.artifacts["curves"].name}
    (row,) = pd.read_csv(folder / "csv/attribute/version_0/metrics.csv").to_dict("records")
    assert row["pairs/n_pairs"] == 6
    assert not any(str(name).startswith("stage/") for name in row), "nobody worked"


def test_a_method_and_then_a_ranking_stand_on_one_training(cells_file, tmp_path, done, monkeypatch):
    """What `gradgene attribute -m` and `gradgene prune -m` do in folders named by overrides."""
    line = (*QUICK, "attribution=grad_x_delta")
    assert main(["train", *words(cells_file, tmp_path / "train")]) == 0
    assert main(["attribute", *words(cells_file, tmp_path / "grad", *line)]) == 0
    assert done.pop("explained") and done == {"fits": 1}
    for ranking in ("attribution", "deg"):
        folder = tmp_path / f"grad-{ranking}"
        assert main(["prune", *words(cells_file, folder, *line, f"ranking={ranking}")]) == 0
        assert from_cache(folder) == {"train": True, "attribute": True, "prune": False}
    pieces = done["pruned"]
    assert done == {"fits": 1, "pruned": pieces}
    monkeypatch.setenv("GRADGENE_CACHE", "")
    alone = tmp_path / "alone"
    for command in FINISHED:
        assert main([command, *words(cells_file, alone, *line, "ranking=deg")]) == 0
    assert done["fits"] == 2 and done["explained"]
    assert pruning_of(alone) == pruning_of(tmp_path / "grad-deg"), "shared or not"


def test_rankings_share_what_controls_leave(cells_file, tmp_path, done, cache, monkeypatch):
    """Random orders are predicted for one of the rankings alone."""
    folder = tmp_path / "hvg"
    assert main(["prune", *words(cells_file, folder, *QUICK, "ranking=hvg")]) == 0
    assert from_cache(folder) == {"train": True, "attribute": True, "prune": False}
    shared = done.pop("pruned")
    assert not done
    monkeypatch.setenv("GRADGENE_CACHE", "")
    shutil.copytree(folder, tmp_path / "alone")
    (tmp_path / "alone" / "progress.jsonl").write_text(
        "".join((folder / "progress.jsonl").read_text().splitlines(keepends=True)[:2])
    )
    assert main(["prune", *words(cells_file, tmp_path / "alone", *QUICK, "ranking=hvg")]) == 0
    assert shared < done["pruned"]
    assert pruning_of(tmp_path / "alone") == pruning_of(folder)


def test_other_flags_remake_the_tables_alone(cache, cells_file, tmp_path, done, filled):
    (tmp_path / "symbols.csv").write_text("ensembl_id,gene_symbol\nENSG1,MT-ND1\n")
    folder, flags = tmp_path / "new", f"flags.symbols={tmp_path / 'symbols.csv'}"
    assert main(["attribute", *words(cells_file, folder, *QUICK, flags)]) == 0
    assert done == SHOWN and from_cache(folder) == {"train": True, "attribute": False}
    ours, theirs = (read(f, "attributions/genes") for f in (folder, filled / "run"))
    assert ours["score"].equals(theirs["score"])
    told = json.loads((folder / "attributions" / "plan.json").read_text())["deeplift"]
    assert {split: one["from_cache"] for split, one in told.items()} == {
        "test": True,
        "train": True,
    }
    assert not (folder / "attributions" / ".progress").exists()


def test_a_compared_method_is_attributed_once(cache, cells_file, tmp_path, done):
    line = ("attribution=grad_x_delta", "study.compare=[deeplift]")
    assert main(["attribute", *words(cells_file, tmp_path / "both", *QUICK, *line)]) == 0
    both = done.pop("explained")
    assert main(["attribute", *words(cells_file, tmp_path / "one", *QUICK, line[0])]) == 0
    assert done == SHOWN and both > 1, "it was done by the run before"
    assert read(tmp_path / "both", "attributions/deeplift/genes")["score"].notna().all()


def test_scores_of_pairs_are_written_for_every_run(cache, cells_file, tmp_path, done):
    """Sums that come from the cache have no shards; a whole stage has."""
    line = [*QUICK, "attribution.save=pairs"]
    for name, n_done in (("first", True), ("again", False)):
        folder = tmp_path / name
        assert main(["attribute", *words(cells_file, folder, *line)]) == 0
        assert bool(done.pop("explained", 0)) == n_done
        assert any((folder / "attributions" / "pairs").glob("part-*"))
    first, again = (contents(tmp_path / n / "attributions") for n in ("first", "again"))
    assert first == again


SAME = {
    "name": ("study.name=another",),
    "logger": ("logger=csv",),
    "what is only compared": ("study.match_on=[]",),
}
OTHER = {
    "a setting": ("finetune.learning_rate=0.01",),
    "the seed": ("study.seed=1",),
    "the kind of trainer": ("trainer.gradient_clip_val=2.0",),
}


@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_what_decides_a_training(name, cache, cells_file, tmp_path, done):
    more = {**SAME, **OTHER}[name]
    assert main(["train", *words(cells_file, tmp_path / "new", *more)]) == 0
    assert done["fits"] == (name in OTHER)


def test_a_moved_or_touched_file_is_the_same_and_a_changed_one_is_not(
    cache, cells_file, tmp_path, done
):
    data = tmp_path / "moved.h5ad"
    shutil.copyfile(cells_file, data)
    os.utime(data, (1, 1))
    assert main(["train", *words(data, tmp_path / "new")]) == 0
    assert not done
    write_cells(data, lambda adata: adata.X.__setitem__((0, 0), adata.X[0, 0] + 1))
    assert main(["train", *words(data, tmp_path / "changed")]) == 0
    assert done["fits"] == 1


def test_another_program_finds_nothing(cache, cells_file, tmp_path, done, monkeypatch, refused):
    monkeypatch.setattr(stage_cache_module, "program_hash", lambda: "another")
    error = refused("attribute", *words(cells_file, tmp_path / "new"))
    assert "no trained model of this configuration" in error and "`gradgene train`" in error
    assert main(["train", *words(cells_file, tmp_path / "new")]) == 0
    assert done["fits"] == 1


def test_other_weights_are_attributed_anew(filled, cells_file, tmp_path, done):
    """Under the same name as well, and the very same under another name are not."""
    used, other = tmp_path / "used.ckpt", tmp_path / "other.ckpt"
    best = filled / "run" / "checkpoints" / "best.ckpt"
    for file in (used, other):
        shutil.copyfile(best, file)

    def explained(folder: str, file: Path) -> int:
        line = words(cells_file, tmp_path / folder, *QUICK, f"checkpoint.path={file}")
        assert main(["attribute", *line]) == 0
        return done.pop("explained", 0)

    first = explained("first", used)
    assert first and not explained("other", other)
    content = torch.load(used, weights_only=True)
    content["state_dict"]["model.identity_embedding.weight"] *= 1.01
    torch.save(content, used)
    assert explained("changed", used) == first


def test_a_damaged_entry_is_computed_again(cache, filled, cells_file, tmp_path, done):
    (weights,) = cache.glob("entries/train-*/files/checkpoints/best.ckpt")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert main(["train", *words(cells_file, tmp_path / "new")]) == 0
    assert done["fits"] == 1
    done.clear()
    assert main(["train", *words(cells_file, tmp_path / "again")]) == 0
    assert not done, "the new one has taken its place"


@pytest.mark.parametrize("off", ["GRADGENE_CACHE", "paths.cache"])
def test_the_cache_can_be_off(off, cache, cells_file, tmp_path, done, monkeypatch):
    more = ("paths.cache=null",) if off == "paths.cache" else ()
    if not more:
        monkeypatch.setenv("GRADGENE_CACHE", "")
    monkeypatch.chdir(tmp_path)
    before = contents(cache)
    assert main(["train", *words(cells_file, tmp_path / "new", *more)]) == 0
    assert done["fits"] == 1 and contents(cache) == before
    assert not (tmp_path / "runs").exists()


def test_the_cache_can_be_deleted_at_any_time(cache, cells_file, tmp_path, done):
    folder = tmp_path / "new"
    assert main(["train", *words(cells_file, folder)]) == 0
    shutil.rmtree(cache)
    assert main(["attribute", *words(cells_file, folder, *QUICK)]) == 0
    assert from_cache(folder) == {"train": True, "attribute": False}
    assert not done["fits"] and done["explained"]


def test_doing_a_stage_again_alters_no_other_run(
    cache, cells_file, tmp_path, done, monkeypatch, filled
):
    """Not even where checkpoints are copied over what is there, as from another file system."""
    first, again = tmp_path / "first", tmp_path / "again"
    for folder in (first, again):
        assert main(["prune", *words(cells_file, folder, *QUICK)]) == 0
    best = first / "checkpoints" / "best.ckpt"
    assert best.samefile(again / "checkpoints" / "best.ckpt"), "else there is nothing to alter"
    before = [contents(first), contents(cache / "entries")]
    move = shutil.copyfile
    monkeypatch.setattr(fsspec.implementations.local.shutil, "move", move)
    monkeypatch.setenv("GRADGENE_CACHE", "")
    for file in ("progress.jsonl", "checkpoints/last.ckpt"):
        (again / file).unlink()
    for command in FINISHED:
        assert main([command, *words(cells_file, again, *QUICK)]) == 0
    assert done["fits"] == 1 and done["explained"] and done["pruned"]
    assert not best.samefile(again / "checkpoints" / "best.ckpt")
    assert [contents(first), contents(cache / "entries")] == before


def test_a_plan_says_what_is_in_the_cache(cache, cells_file, tmp_path, capsys):
    folder = tmp_path / "new"
    assert main(["study", "--dry-run", *words(cells_file, folder, *QUICK)]) == 0
    said = capsys.readouterr().out
    for stage in FINISHED:
        assert re.search(rf"│ {stage} +│ in the cache +│", said)
    assert re.search("│ evaluate +│ to do +│", said) and not folder.exists()


def test_of_two_jobs_at_once_one_trains(cells_file, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    processes = []
    for folder in folders:
        process = os.fork()
        if process == 0:
            os._exit(main(["train", *words(cells_file, folder)]))
        processes.append(process)
    assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes] == [0, 0]
    assert sorted(from_cache(f)["train"] for f in folders) == [False, True]
    assert contents(folders[0] / "checkpoints") == contents(folders[1] / "checkpoints")


@pytest.mark.slow
def test_a_study_of_a_finished_study(cache, cells_file, tmp_path, done, no_figures):
    folder = tmp_path / "new"
    assert main(["study", *words(cells_file, folder, *QUICK)]) == 0
    assert not done and (folder / "report.html").is_file()
    assert from_cache(folder) == {**dict.fromkeys(FINISHED, True), "evaluate": False}


@pytest.mark.slow
def test_a_sweep_over_rankings_trains_and_attributes_once(cells_file, tmp_path, done, no_figures):
    line = ["study", "-m", *words(cells_file, tmp_path / "sweep", *QUICK, "report=none")]
    assert main([*line, "ranking=attribution,hvg"]) == 0
    assert done["fits"] == 1
    second = tmp_path / "sweep" / "ranking=hvg"
    assert from_cache(second) == {
        "train": True,
        "attribute": True,
        "prune": False,
        "evaluate": False,
    }


def test_what_is_done_is_not_undone_by_what_it_stands_on(cells_file, filled, tmp_path, monkeypatch):
    """Scores of a given model need no judging of it, though another run has kept one."""
    best = filled / "run" / "checkpoints" / "best.ckpt"
    line = [*QUICK, f"checkpoint.path={best}"]
    own = words(cells_file, tmp_path / "a", *line)
    with monkeypatch.context() as patch:
        patch.setenv("GRADGENE_CACHE", "")
        assert main(["attribute", *own]) == 0
    assert main(["train", *words(cells_file, tmp_path / "b", *line)]) == 0
    before = contents(tmp_path / "a" / "attributions")
    assert main(["prune", *own]) == 0
    assert contents(tmp_path / "a" / "attributions") == before
    assert main(["attribute", *own]) == 0 and [s["stage"] for s in progress(tmp_path / "a")] == [
        "attribute",
        "prune",
    ]
