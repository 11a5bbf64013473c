"""Weights & Biases: which mode, no prompt, and an offline run that can be read back."""

from __future__ import annotations

import json
import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

from gradgene.reports import RunFiles
from gradgene.reports.wandb import log_run, quiet_environment, wandb_mode
from tests.reports.synthetic import METRICS, write_run

KEY = "0" * 40


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without any W&B settings, whose files all go to the test's folder."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        (tmp_path / "wb").mkdir(exist_ok=True)
        monkeypatch.setenv(name, str(tmp_path / "wb"))


def test_offline_without_credentials() -> None:
    assert wandb_mode() == "offline"


def test_online_with_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mode() == "online"
    for asked in ("offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", asked)
        assert wandb_mode() == asked


@pytest.mark.parametrize("machine", ["api.wandb.ai", "api.forge.coreweave.com"])
def test_online_with_a_key_in_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    file = tmp_path / "netrc"
    file.write_text(f"machine {machine} login user password {KEY}\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_mode() == "offline"


def test_settings_file(tmp_path: Path) -> None:
    settings = tmp_path / "wb" / "settings"
    settings.write_text(f"[default]\napi_key = {KEY}\n")
    assert wandb_mode() == "online"
    settings.write_text(f"[default]\napi_key = {KEY}\nmode = offline\n")
    assert wandb_mode() == "offline"


def test_damaged_files_do_not_leak_or_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "netrc").write_text(f"machine x login y passwort {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "wb" / "settings").write_text("no section = 1\n")
    assert wandb_mode() == "offline"
    assert caplog.text.count("cannot be read") == 2 and KEY not in caplog.text


def test_asking_for_online_without_a_key_cannot_prompt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert wandb_mode() == "offline"
    assert "no W&B API key" in caplog.text


def test_quiet_environment_respects_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_CONSOLE", "wrap")
    before = dict(os.environ)
    try:
        quiet_environment("offline")
        assert os.environ["WANDB_MODE"] == "offline"
        assert os.environ["WANDB_SILENT"] == "true"
        assert os.environ["WANDB_CONSOLE"] == "wrap"
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]


def records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file: LevelDB's log format after a header of seven bytes."""
    content, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(parts)  # type: ignore[attr-defined]
            parts = b""


def finished_records(file: Path) -> list[Any]:
    """All records, once W&B's own process has written the one of the run's exit.

    `finish` returns before that process has flushed its file, so a reader may come too early.
    """
    until = time.monotonic() + 30
    while True:
        try:
            found = list(records(file))
        except DecodeError:  # a record of which only a part is there yet
            found = []
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        assert time.monotonic() < until, "W&B never finished its file"
        time.sleep(0.05)


@pytest.mark.slow
def test_offline_run_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", n_genes=700)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    (folder / "figures").mkdir()
    figure = folder / "figures" / "top_genes.png"
    figure.write_bytes(PNG)
    settings = wandb.Settings(mode="offline", silent=True, console="off", x_disable_stats=True)
    run = wandb.init(project="gradgene", dir=str(tmp_path), settings=settings)
    log_run(run, RunFiles.read(folder), {"top_genes": figure})
    run.finish()

    (file,) = tmp_path.rglob("run-*.wandb")
    found = finished_records(file)
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in found
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    assert summary["test/balanced_accuracy"] == METRICS["test/balanced_accuracy"]
    artifacts = {
        (record.request.log_artifact.artifact.type, record.request.log_artifact.artifact.name)
        for record in found
        if record.WhichOneof("record_type") == "request"
    } | {(r.artifact.type, r.artifact.name) for r in found if r.HasField("artifact")}
    assert {("genes", "kang_ifnb-genes"), ("curves", "kang_ifnb-curves")} <= artifacts
    assert ("checkpoint", "kang_ifnb-checkpoint") in artifacts
    media = file.parent / "files" / "media"
    (genes,) = media.glob("table/genes_[0-9]*.json")
    table = json.loads(genes.read_text())
    assert len(table["data"]) == 500 and table["columns"][0] == "gene"
    (pairs,) = media.glob("table/pairs_*.json")
    assert len(json.loads(pairs.read_text())["data"]) == 160
    for name, rows in (("strata", 2), ("effects", 10), ("enrichment", 3), ("genes_by_label", 60)):
        (table_file,) = media.glob(f"table/{name}_*.json")
        assert len(json.loads(table_file.read_text())["data"]) == rows, name
    assert not list(media.glob("table/skipped_pairs_*.json"))
    (image,) = media.glob("images/figures/top_genes_*.png")
    assert image.read_bytes() == PNG
    assert capfd.readouterr().out == ""


class Broken:
    """A W&B run whose server has gone."""

    summary: dict[str, Any]

    def __init__(self) -> None:
        self.summary = {}

    def log(self, _: object) -> None:
        raise ConnectionError("server gone")

    def log_artifact(self, _: object) -> None:
        raise ConnectionError("server gone")


def test_a_failing_server_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFiles.read(write_run(tmp_path / "run", n_genes=20))
    broken = Broken()
    with caplog.at_level(logging.WARNING):
        log_run(broken, run, {})
    assert broken.summary["test/macro_f1"] == METRICS["test/macro_f1"]
    assert "gene table not logged: server gone" in caplog.text
    assert "curve artifact not logged" in caplog.text


#: One grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)
