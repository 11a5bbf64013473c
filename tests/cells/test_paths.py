"""A data path is a file, a list, a glob or a bundled name; anything else is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradgene.cells import resolve_paths
from gradgene.errors import CellsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two `.h5ad`, one `.zarr` and files that are neither."""
    for name in ("b.h5ad", "a.h5ad", "notes.txt", "odd[1].h5ad"):
        (tmp_path / name).touch()
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.h5ad").touch()
    return tmp_path


def names(*paths: str) -> list[str]:
    return [p.name for p in resolve_paths(paths[0] if len(paths) == 1 else paths)]


def test_one_file_or_a_list_in_its_order(folder: Path) -> None:
    assert names(f"{folder}/b.h5ad") == ["b.h5ad"]
    assert names(f"{folder}/c.zarr") == ["c.zarr"]
    assert names(f"{folder}/b.h5ad", f"{folder}/a.h5ad") == ["b.h5ad", "a.h5ad"]


def test_globs_are_sorted_and_see_cell_files_only(folder: Path) -> None:
    assert names(f"{folder}/*") == ["a.h5ad", "b.h5ad", "c.zarr", "odd[1].h5ad"]
    assert names(f"{folder}/?.h5ad") == ["a.h5ad", "b.h5ad"]
    assert names(f"{folder}/**/*.h5ad") == ["a.h5ad", "b.h5ad", "d.h5ad", "odd[1].h5ad"]
    assert names(f"{folder}/c.*", f"{folder}/a.h5ad") == ["c.zarr", "a.h5ad"]


def test_a_file_with_brackets_in_its_name_is_a_file(folder: Path) -> None:
    assert names(f"{folder}/odd[1].h5ad") == ["odd[1].h5ad"]


def test_home_and_bundled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert names("~/a.h5ad") == ["a.h5ad"]
    assert names("~/deep/*.h5ad") == ["d.h5ad"]
    assert names("bundled:pbmc68k")[0].endswith(".h5ad")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("*.loom",), r"no \.h5ad or \.zarr matches .*; to fix"),
        (("*.txt",), r"found 1 other matches"),
        (("a.h5ad", "*.h5ad"), r"names .*a\.h5ad twice"),
        (("gone.h5ad",), r"no such file: .*; found in .*'a\.h5ad'"),
        (("deep",), r"is a folder: .*; to fix: write a glob such as .*deep/\*\.h5ad"),
        ((), "names no file"),
    ],
)
def test_mistakes(folder: Path, paths: tuple[str, ...], message: str) -> None:
    with pytest.raises(CellsError, match=message) as error:
        resolve_paths([f"{folder}/{p}" for p in paths])
    assert str(error.value).startswith("data.path: ")
    assert "\n" not in str(error.value)


def test_a_file_is_found_twice_by_whatever_name(folder: Path) -> None:
    (folder / "link.h5ad").symlink_to(folder / "a.h5ad")
    for other in ("link.h5ad", "deep/../a.h5ad"):
        with pytest.raises(CellsError, match="twice"):
            resolve_paths([str(folder / "a.h5ad"), str(folder / other)])
