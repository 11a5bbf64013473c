"""Weights & Biases: which mode, no prompt, and an offline run that can be read back."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene.reports import RunFiles
from gradgene.reports.wandb import finish, log_run, open_run, quiet_environment, send, wandb_mode
from gradgene.reports.wandb_content import log_content
from tests.reports.synthetic import METRICS, write_run
from tests.wandb_files import manifest, nobody, offline_runs

KEY = "0" * 40


@pytest.fixture(autouse=True)
def _nobody(tmp_path: Path) -> Iterator[None]:
    with nobody(tmp_path):
        yield


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


@pytest.mark.slow
def test_offline_run_can_be_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", n_genes=700)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    (folder / "figures").mkdir()
    figure = folder / "figures" / "top_genes.png"
    figure.write_bytes(PNG)
    send(RunFiles.read(folder), {"top_genes": figure}, group="both")

    (run,) = offline_runs(folder)
    assert (run.stage, run.run.run_group, run.run.project) == ("report", "both", "gradgene")
    assert run.exit_code == 0
    assert run.summary["test/balanced_accuracy"] == METRICS["test/balanced_accuracy"]
    assert {*run.artifacts} == {"checkpoint", "attributions", "curves", "evaluation"}
    assert [*manifest(run.artifacts["checkpoint"])] == ["best.ckpt"]
    entries = manifest(run.artifacts["curves"])
    assert "pruning/curves.parquet" in entries
    for entry in entries.values():  # copied into the run's folder, where `wandb sync` finds it
        assert Path(entry.local_path).is_relative_to(folder / "wandb")
        assert Path(entry.local_path).is_file()
    assert len(run.table("genes")["data"]) == 500
    assert run.table("genes")["columns"][0] == "gene"
    rows = {"pairs": 160, "strata": 2, "effects": 10, "enrichment": 3, "genes_by_label": 60}
    assert {name: len(run.table(name)["data"]) for name in rows} == rows
    assert "skipped_pairs" not in run.tables
    assert "plots/pruning_lowest_first" in run.config["_wandb"]["visualize"]
    (image,) = run.files.glob("media/images/figures/top_genes_*.png")
    assert image.read_bytes() == PNG
    assert capfd.readouterr().out == ""


class Broken:
    """A W&B run whose server has gone."""

    offline = True

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.config: dict[str, Any] = {}

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
    assert "genes table not logged: ConnectionError: server gone" in caplog.text
    assert "curves artifact not logged" in caplog.text


def test_a_run_that_cannot_be_closed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Broken):
        def finish(self, exit_code: int) -> None:
            raise TimeoutError(f"exit code {exit_code}")

    slow = Slow()
    finish(slow, ValueError("two\n lines"))
    assert slow.summary["error"] == "ValueError: two lines"
    assert "uploads did not end" in caplog.text
    assert wandb_mode() == "offline", "a server that is gone is not waited for again"


def test_long_tables_are_cut_and_say_so() -> None:
    logged: dict[str, Any] = {}

    class Kept(Broken):
        def log(self, what: Any) -> None:
            logged.update(what)

    run = Kept()
    pairs = pd.DataFrame({"pair": range(5_003)})
    log_content(run, RunFiles(path=Path(), pairs=pairs), ["attribute"], {})
    assert len(logged["pairs"].data) == 5_000
    assert run.summary["pairs/note"].startswith("the first 5,000 of 5,003 rows")
    log_content(run, RunFiles(path=Path(), pairs=pairs.head(7)), ["attribute"], {})
    assert len(logged["pairs"].data) == 7


@pytest.mark.slow
def test_an_unreachable_server_is_waited_for_once(tmp_path: Path) -> None:
    """Neither run is lost, neither asks again, and the key is in no file and on no terminal."""
    script = """if True:
        import sys, time
        from pathlib import Path
        from gradgene.reports.wandb import finish, open_run, staged_in
        folder, spent = Path(sys.argv[1]), []
        for i in range(2):
            started = time.monotonic()
            with staged_in(folder):
                run = open_run(folder, project="gradgene", job_type=f"stage{i}")
                finish(run, None)
            spent.append(time.monotonic() - started)
        print(spent[1] < 3)
    """
    secret = "a1b2c3d4" * 5
    environment = {**os.environ, "WANDB_API_KEY": secret, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        env=environment | {"WANDB_INIT_TIMEOUT": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "True", "the second run does not wait"
    assert done.stderr.count("W&B cannot be reached") == 1
    assert {run.stage for run in offline_runs(tmp_path)} == {"stage0", "stage1"}
    assert secret not in done.stdout + done.stderr
    leaks = [f for f in tmp_path.rglob("*") if f.is_file() and secret.encode() in f.read_bytes()]
    assert leaks == []


#: One grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)


@pytest.mark.parametrize("asked", ["offline", "disabled"])
def test_a_mode_that_was_asked_for_is_kept(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    modes: list[str] = []
    monkeypatch.setattr("gradgene.reports.wandb._started", lambda mode, **more: modes.append(mode))
    open_run(tmp_path, mode=asked)
    assert modes == (["offline"] if asked == "offline" else [])
