"""Which runs a word on the command line of `gradgene report` stands for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.commands.report.sweep import find_sweep
from gradgene.errors import OutputError


def sweep_of(folder: Path, *jobs: str, mark: str = "multirun.yaml") -> Path:
    """A sweep whose jobs each left a configuration, with more runs' files below them."""
    for job in jobs:
        (folder / job / "attributions").mkdir(parents=True)
        (folder / job / "config.yaml").write_text("study: {}")
        # A run may hold another one's configuration, as a checkpoint's folder does.
        (folder / job / "attributions" / "config.yaml").write_text("")
    (folder / mark).write_text("")
    return folder


def write_jobs(folder: Path, rows: list[tuple[str, str]]) -> None:
    columns = {"job": range(len(rows)), "overrides": "", "folder": [f for f, _ in rows]}
    table = pd.DataFrame({**columns, "status": [status for _, status in rows]})
    table.to_csv(folder / "jobs.csv", index=False)


def test_one_run_is_no_sweep(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a")
    assert find_sweep([str(sweep / "a")]) is None
    # Nor is the folder of a run in which a sweep was only begun: what is in it is the run's own.
    (sweep / "a" / "multirun.yaml").write_text("")
    assert find_sweep([str(sweep / "a")]) is None
    assert find_sweep([str(tmp_path / "nowhere")]) is None


def test_a_sweep_in_the_folder_of_a_run_is_a_sweep(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", "b")
    (sweep / "config.yaml").write_text("study: {}")
    (sweep / "attributions").mkdir()
    (sweep / "attributions" / "config.yaml").write_text("")
    found = find_sweep([str(sweep)])
    assert found is not None and [run.name for run in found.runs] == ["a", "b"]


def test_the_folder_of_a_sweep_stands_for_its_runs(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "b=1", "a=2", "data.path=x/y")
    found = find_sweep([str(sweep)])
    assert found is not None and found.folder == sweep and found.jobs is None
    assert [run.relative_to(sweep).as_posix() for run in found.runs] == [
        "a=2",
        "b=1",
        "data.path=x/y",
    ]


def test_a_glob_stands_for_the_same(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", "b")
    found = find_sweep([str(path) for path in sorted(sweep.iterdir())])
    assert found is not None and found.folder == sweep
    assert [run.name for run in found.runs] == ["a", "b"]


def test_runs_of_no_sweep_have_no_folder_in_common(tmp_path: Path) -> None:
    one, two = sweep_of(tmp_path / "one", "a"), sweep_of(tmp_path / "two", "b")
    found = find_sweep([str(one / "a"), str(two / "b")])
    assert found is not None and found.folder is None and len(found.runs) == 2


def test_jobs_give_the_order_and_leave_out_what_failed(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", "b", "c", mark="jobs.csv")
    # Written where the sweep was before it was moved, where it is, and by name.
    write_jobs(sweep, [("/before/c", "done"), ("a", "failed"), (str(sweep / "b"), "done")])
    for words in ([str(sweep)], [str(sweep / name) for name in "abc"]):
        found = find_sweep(words)
        assert found is not None and found.jobs is not None
        assert [run.name for run in found.runs] == ["c", "b"]
        assert len(found.jobs) == 3


def test_a_sweep_without_a_run(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", mark="jobs.csv")
    write_jobs(sweep, [("a", "failed")])
    with pytest.raises(OutputError, match="none of its jobs"):
        find_sweep([str(sweep)])


def test_a_damaged_table_of_jobs_is_named(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, "a", mark="jobs.csv")
    with pytest.raises(OutputError, match=r"jobs\.csv"):
        find_sweep([str(sweep)])
    (sweep / "jobs.csv").write_text("job,overrides,folder\n0,,a\n")
    with pytest.raises(OutputError, match="no column 'status'"):
        find_sweep([str(sweep)])
