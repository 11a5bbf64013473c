"""Hashes change with content, and only with content."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import gradgene
from gradgene.provenance import (
    file_hash,
    git_commit,
    provenance,
    redacted,
    settings_hash,
)

SETTINGS = {"study": {"name": "a", "seed": 1, "match_on": ["x", "y"]}, "donor": None}


def test_key_order_does_not_matter() -> None:
    turned = {"donor": None, "study": {"match_on": ["x", "y"], "seed": 1, "name": "a"}}
    assert settings_hash(turned) == settings_hash(SETTINGS)
    assert len(settings_hash(SETTINGS)) == 12
    assert set(settings_hash(SETTINGS)) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        {"donor": "d"},
        {"donor": "null"},
        {"extra": None},
        {"study": {"name": "a", "seed": 2, "match_on": ["x", "y"]}},
        {"study": {"name": "a", "seed": 1, "match_on": ["y", "x"]}},
        {"study": {"name": "a", "seed": "1", "match_on": ["x", "y"]}},
    ],
)
def test_any_change_shows(change: dict[str, object]) -> None:
    assert settings_hash(SETTINGS | change) != settings_hash(SETTINGS)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_file_hash_is_sha256_of_all_blocks(tmp_path: Path, size: int) -> None:
    content = bytes(i % 251 for i in range(97)) * (size // 97 + 1)
    file = tmp_path / "data"
    file.write_bytes(content[:size])
    assert file_hash(file) == hashlib.sha256(content[:size]).hexdigest()


def test_provenance_is_json_with_versions_and_hashes(tmp_path: Path) -> None:
    data = tmp_path / "cells.h5ad"
    data.write_bytes(b"cells")
    record = json.loads(json.dumps(provenance(data, None, "abc")))
    assert record["gradgene"] == gradgene.__version__
    assert record["packages"]["torch"] == torch.__version__
    assert record["data"] == {"path": str(data), "sha256": hashlib.sha256(b"cells").hexdigest()}
    assert record["checkpoint"] is None
    assert record["config_hash"] == "abc"
    assert provenance(None, data, "abc")["checkpoint"]["sha256"] == record["data"]["sha256"]


def test_credentials_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "a1b2c3d4e5")
    monkeypatch.setenv("PRESSED_KEY", "a")  # too short to be one
    shown = redacted(
        {
            "command": ["gradgene", "key=a1b2c3d4e5", "seed=1"],
            "path": "s3://user:word@bucket/cells",
            "gene_key": "symbol",
            "n": 3,
        }
    )
    assert shown == {
        "command": ["gradgene", "key=***", "seed=1"],
        "path": "s3://***@bucket/cells",
        "gene_key": "symbol",
        "n": 3,
    }


def test_the_commit_of_a_repository(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    mine = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*mine, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([git, "-C", str(tmp_path), *words], check=True)
    commit = git_commit(tmp_path)
    assert commit is not None and len(commit) == 40
