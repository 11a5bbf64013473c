"""The same command again, other settings in the same folder, and what an error leaves behind."""

from __future__ import annotations

import errno
import shutil
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene.attribution import DeepLift
from gradgene.commands.main import main
from gradgene.store import read_json_lines
from tests.integration.tiny import (
    QUICK,
    contents,
    progress,
    read,
    run_all_stages,
    words,
    write_cells,
)

STAGES = ["train", "attribute", "prune", "evaluate"]


@pytest.fixture(scope="module")
def finished(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all stages, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run_all_stages(cells_file, folder, *QUICK)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def test_the_same_command_skips_every_stage_and_remakes_the_report(folder, cells_file, no_figures):
    line = ["study", *words(cells_file, folder, *QUICK)]
    assert main(line) == 0, "the folder is a copy, which config.yaml now says"
    before, changed = contents(folder), (folder / "progress.jsonl").stat().st_mtime_ns
    (folder / "report.html").unlink()
    assert main(line) == 0
    assert contents(folder) == before
    assert (folder / "progress.jsonl").stat().st_mtime_ns == changed


def test_another_number_of_random_orders_redoes_pruning_alone(folder, cells_file, no_figures):
    before = contents(folder)
    assert main(["study", *words(cells_file, folder, *QUICK, "pruning.n_random=3")]) == 0
    after = contents(folder)
    assert [line["stage"] for line in progress(folder)] == [*STAGES, "prune", "evaluate"]
    for file in before:
        if file.startswith(("attributions/", "checkpoints/")):
            assert before[file] == after[file], file
    assert set(read(folder, "pruning/curves").query("ranking == 'random'")["draw"]) == {0, 1, 2}
    rankings = read(folder, "pruning/rankings").groupby("ranking", sort=False)["draw"].nunique()
    assert rankings["random"] == 3 and rankings["deeplift/forward"] == 1


@pytest.mark.parametrize("command", ["study", *STAGES])
def test_another_model_in_the_same_folder_is_refused(command, folder, cells_file, refused):
    before = contents(folder)
    error = refused(command, *words(cells_file, folder, *QUICK, "model.dim=32"))
    assert str(folder) in error and "paths.output_dir" in error
    assert contents(folder) == before


def test_replaced_data_are_noticed(folder, cells_file, tmp_path, refused):
    data = tmp_path / "cells.h5ad"
    shutil.copyfile(cells_file, data)
    before = contents(folder / "checkpoints")
    assert main(["train", *words(data, folder, *QUICK)]) == 0, "moved, but the same"
    assert contents(folder / "checkpoints") == before and len(progress(folder)) == len(STAGES)
    write_cells(data, lambda adata: adata.X.__setitem__((0, 0), adata.X[0, 0] + 1))
    assert "other settings" in refused("train", *words(data, folder, *QUICK))


@pytest.mark.slow
def test_a_compared_method_that_is_dropped_is_not_reported(cells_file, folder):
    run_all_stages(cells_file, folder, *QUICK, "study.compare=[grad_x_delta]")
    assert (folder / "attributions/grad_x_delta/genes.parquet").is_file()
    assert "grad_x_delta/contrast" in set(read(folder, "pruning/curves")["ranking"])
    run_all_stages(cells_file, folder, *QUICK)
    assert not list(folder.glob("attributions/*/*.parquet"))
    assert set(read(folder, "pruning/curves")["ranking"]) == {"deeplift/forward", "random"}


@pytest.mark.slow
def test_two_fresh_folders_agree_bit_for_bit(finished, cells_file, tmp_path):
    run_all_stages(cells_file, tmp_path / "again", *QUICK)
    for table in ("attributions/genes", "attributions/pairs", "pruning/curves", "pruning/rankings"):
        first, second = read(finished, table), read(tmp_path / "again", table)
        if "model" in first:
            assert set(second.pop("model")) != set(first.pop("model")), "the path of the checkpoint"
        pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.slow
def test_another_seed_differs(finished, cells_file, tmp_path):
    run_all_stages(cells_file, tmp_path / "other", *QUICK, "study.seed=1")
    tables = ["attributions/genes", "pruning/rankings"]
    for table in tables:
        scores = (read(f, table).set_index("gene")["score"] for f in (finished, tmp_path / "other"))
        first, second = (s[~s.index.duplicated()].sort_index() for s in scores)
        assert not first.equals(second), table
    assert set(read(tmp_path / "other", "attributions/genes")["seed"]) == {1}


class FullDisk:
    """Parquet files of one name meet a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.write, self.name, self.full = pd.DataFrame.to_parquet, name, True
        monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *a, **k: self(*a, **k))

    def __call__(self, frame: pd.DataFrame, path: Path, **more: Any) -> None:
        if self.full and self.name in str(path):
            Path(path).write_bytes(b"PAR1 half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        self.write(frame, path, **more)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "done"),
    [("genes.parquet", STAGES[:1]), ("rankings.parquet", STAGES[:1]), ("curves", STAGES[:2])],
)
def test_a_full_disk_keeps_what_was_finished(
    file, done, cells_file, tmp_path, monkeypatch, refused, no_figures
):
    folder = tmp_path / "run"
    line = words(cells_file, folder, *QUICK)
    disk = FullDisk(monkeypatch, file)
    assert "No space left on device" in refused("study", *line)
    assert [stage["stage"] for stage in progress(folder)] == done
    assert not list(folder.rglob("*.tmp")), "no half file is left"
    assert not list(folder.rglob(f"*{file}*"))
    kept = contents(folder)
    disk.full = False
    assert main(["study", *line]) == 0
    assert [stage["stage"] for stage in progress(folder)] == STAGES
    assert all(kept[f] == new for f, new in contents(folder).items() if f.endswith(".ckpt"))


@pytest.mark.slow
def test_breaking_off_with_other_settings_never_mixes_two_runs(
    folder, cells_file, monkeypatch, refused
):
    line = words(cells_file, folder, *QUICK)
    before = read(folder, "attributions/genes").drop(columns="model")
    disk = FullDisk(monkeypatch, "rankings.parquet")
    refused("attribute", *line, "attribution=grad_x_delta")
    assert set(read(folder, "attributions/genes")["method"]) == {"grad_x_delta"}
    disk.full = False
    assert "attribute" in refused("prune", *line), "the tables are of two configurations"
    for command in STAGES[1:]:
        assert main([command, *line]) == 0
    assert [stage["stage"] for stage in progress(folder)] == [*STAGES, *STAGES[1:]]
    after = read(folder, "attributions/genes").drop(columns="model")
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert set(read(folder, "pruning/rankings")["ranking"]) >= {"random", "deeplift/forward"}


@pytest.mark.slow
def test_ctrl_c_while_attributing_keeps_the_model(
    cells_file, tmp_path, monkeypatch, capsys, no_figures, keyboard
):
    line = words(cells_file, tmp_path / "run", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(DeepLift, "attribute", lambda *given: signal.raise_signal(signal.SIGINT))
        assert main(["study", *line]) == 130
    assert capsys.readouterr().err.startswith("gradgene: interrupted")
    assert [stage["stage"] for stage in progress(tmp_path / "run")] == STAGES[:1]
    assert main(["study", *line]) == 0
    assert [stage["stage"] for stage in progress(tmp_path / "run")] == STAGES


def test_a_corrected_label_trains_in_the_same_folder(cells_file, tmp_path, refused):
    folder = tmp_path / "run"
    refused("train", *words(cells_file, folder, "study.input=cases"))
    assert main(["train", *words(cells_file, folder)]) == 0


def test_a_damaged_checkpoint_of_an_interrupted_training(folder, cells_file, refused):
    (folder / "progress.jsonl").unlink()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    error = refused("train", *words(cells_file, folder, *QUICK))
    assert "last.ckpt" in error


def test_a_damaged_line_of_progress_is_ignored(folder, cells_file, capsys, no_figures):
    lines = (folder / "progress.jsonl").read_text().splitlines(keepends=True)
    (folder / "progress.jsonl").write_text("".join(lines[:2]) + lines[2][:20])
    for command in STAGES[2:]:
        assert main([command, *words(cells_file, folder, *QUICK)]) == 0
    assert [line["stage"] for line in read_json_lines(folder / "progress.jsonl")] == STAGES
    before = (folder / "progress.jsonl").read_bytes()
    capsys.readouterr()
    for command, n_stages in (("prune", 1), ("evaluate", 1), ("study", 4)):
        assert main([command, *words(cells_file, folder, *QUICK)]) == 0
        assert capsys.readouterr().out.count("done before, skipped") == n_stages
    assert (folder / "progress.jsonl").read_bytes() == before
