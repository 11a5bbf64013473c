"""The built wheel carries the configuration and starts from any directory."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.tiny import QUICK, words, write_cells

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Run in a clean Python environment, return what was printed, fail with all output."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this working tree."""
    out = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out))
    run(*build, str(REPOSITORY), cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_carries_every_configuration_file(wheel: Path) -> None:
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".yaml")}
    conf = REPOSITORY / "conf"
    expected = {f"gradgene/conf/{p.relative_to(conf).as_posix()}" for p in conf.rglob("*.yaml")}
    assert expected
    assert inside == expected


def test_wheel_has_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
    entry_points = configparser.ConfigParser()
    entry_points.read_string(archive.read(name).decode())
    assert entry_points["console_scripts"]["gradgene"] == "gradgene.commands.main:program"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a directory of its own, without dependencies."""
    target = tmp_path_factory.mktemp("installed") / "target"
    install = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*install, "--target", str(target), str(wheel), cwd=target.parent)
    return target


def test_wheel_starts_from_another_directory(installed: Path, tmp_path: Path) -> None:
    python = (sys.executable, "-c", "import gradgene; print(gradgene.__file__)")
    where = run(*python, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed), "the wheel must win over the repository"

    shown = run(sys.executable, "-m", "gradgene", "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "study" in shown


def test_wheel_makes_a_whole_study(installed: Path, tmp_path: Path) -> None:
    data = write_cells(tmp_path / "cells.h5ad")
    line = words(data, Path("runs/tiny"), *QUICK)  # relative: below the directory one is in
    gradgene = (sys.executable, "-m", "gradgene", "study", *line)
    shown = run(*gradgene, cwd=tmp_path, PYTHONPATH=str(installed))
    assert str(tmp_path / "runs" / "tiny" / "report.html") in "".join(shown.split())
    assert (tmp_path / "runs" / "tiny" / "report.html").is_file()
