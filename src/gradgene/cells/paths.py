"""Which files a data path means: one file, a list, a glob, or a data set that ships along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from glob import glob, has_magic
from importlib import resources
from pathlib import Path

from gradgene.errors import CellsError, closest

__all__ = ["resolve_paths"]

BUNDLED = {"pbmc68k": "10x_pbmc68k_reduced.h5ad"}
#: What anndata writes: `.h5ad` is a file, `.zarr` a folder.
SUFFIXES = (".h5ad", ".zarr")


def resolve_paths(path: str | Sequence[str]) -> tuple[Path, ...]:
    """Turn `data.path` into files: one file, a list of files, globs, or `bundled:pbmc68k`.

    A glob gives its `.h5ad` and `.zarr` matches in alphabetical order; a list keeps its order.

    Raises
    ------
    CellsError
        If a file does not exist, a glob matches nothing, or a file is named twice, also by a link.
    """
    paths = [path] if isinstance(path, str) else [str(p) for p in path]
    files = [file for p in paths for file in (_matches(p) if _is_glob(p) else [_file(p)])]
    if not files:
        raise CellsError("names no file", where="data.path", fix="give a file, a list or a glob")
    places = Counter(file.resolve() for file in files)
    twice = sorted({str(f) for f in files if places[f.resolve()] > 1})
    if twice:
        raise CellsError(f"names {twice[0]} twice", where="data.path", fix="name each file once")
    return tuple(files)


def _file(path: str) -> Path:
    """The one file that a path without wildcards means."""
    if path.startswith("bundled:"):
        name = path.removeprefix("bundled:")
        if name not in BUNDLED:
            raise CellsError(
                f"no bundled data set {name!r}",
                where="data.path",
                expected=f"one of {closest(name, BUNDLED)}",
            )
        return Path(str(resources.files("scanpy.datasets").joinpath(BUNDLED[name])))
    file = Path(path).expanduser()
    if file.is_file() or (file.is_dir() and file.suffix == ".zarr"):
        return file
    if file.is_dir():
        raise CellsError(
            f"is a folder: {file}", where="data.path", fix=f"write a glob such as {file}/*.h5ad"
        )
    near = _cell_files(file.parent.glob("*")) if file.parent.is_dir() else []
    raise CellsError(
        f"no such file: {file}",
        where="data.path",
        found=f"in {file.parent}: {closest(file.name, [p.name for p in near])}" if near else None,
        fix="give the path of an .h5ad file (relative paths start at the working directory)",
    )


def _is_glob(path: str) -> bool:
    """Whether `path` is a pattern; a file whose name has brackets in it is a file."""
    return has_magic(path) and not Path(path).expanduser().exists()


def _matches(pattern: str) -> list[Path]:
    found = glob(str(Path(pattern).expanduser()), recursive=True)
    files = _cell_files(Path(p) for p in found)
    if not files:
        raise CellsError(
            f"no .h5ad or .zarr matches {pattern}",
            where="data.path",
            found=f"{len(found)} other matches" if found else None,
            fix="correct the pattern (relative patterns start at the working directory)",
        )
    return files


def _cell_files(paths: object) -> list[Path]:
    return sorted(p for p in paths if p.suffix in SUFFIXES)  # type: ignore[attr-defined]
