"""Cells on disk, and a command line that says what it printed."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gradgene.commands.main import main
from tests.integration.tiny import write_cells


@pytest.fixture(scope="session")
def cells_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cells, unchanged."""
    return write_cells(tmp_path_factory.mktemp("cells") / "cells.h5ad")


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Hydra composes a line once and not twice: a third of the time of a tiny study.

    The first of its two compositions only looks for `hydra.mode`, which no file or line here sets;
    real processes, and the tests of the shell in tests/commands, compose twice as ever.
    """
    from hydra._internal.hydra import Hydra

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda *given, **more: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """Hydra parses a file of the configuration once and not for every line that a test gives."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    load, parsed = FileConfigSource.load_config, dict[object, Any]()

    def load_once(source: Any, config_path: str) -> Any:
        file = Path(source.path, source._normalize_file_name(config_path))
        if not file.is_file():
            return load(source, config_path)
        key = (source.provider, file, file.stat().st_mtime_ns, file.stat().st_size)
        if key not in parsed:
            parsed[key] = load(source, config_path)
        return copy.deepcopy(parsed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileConfigSource, "load_config", load_once)
        yield


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies draw no figures: they take longer than all the rest of a tiny study."""
    import gradgene.commands.study as study

    monkeypatch.setattr(study, "write_figures", lambda files: {})


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a line that must end with exit code 2 and one line on stderr; returns that line."""

    def call(*line: str) -> str:
        capsys.readouterr()
        code = main(list(line))
        error = capsys.readouterr().err
        assert code == 2, error
        assert error.startswith("gradgene: error: ") and error.count("\n") == 1, error
        return error

    return call


@pytest.fixture
def keyboard() -> Iterator[None]:
    """Ctrl-C works, here and in processes started from here.

    A suite that a shell started in the background inherits that SIGINT is ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
