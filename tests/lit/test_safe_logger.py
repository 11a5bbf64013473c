"""A logger that breaks warns, and what it logs goes on."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.loggers import Logger

from gradgene.lit import SafeLogger


class Inner(Logger):
    """Keeps what it is given, or refuses it."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.broken, self.kept = broken, list[tuple[Any, ...]]()

    @property
    def name(self) -> str:
        return "inner"

    @property
    def version(self) -> int:
        return 3

    def keep(self, *what: Any) -> None:
        if self.broken:
            raise ConnectionError("server gone")
        self.kept.append(what)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.keep("metrics", metrics, step)

    def log_hyperparams(self, params: Any, *more: Any, **named: Any) -> None:
        self.keep("settings", params)

    def save(self) -> None:
        self.keep("save")

    def finalize(self, status: str) -> None:
        self.keep("end", status)


def use(logger: SafeLogger) -> None:
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"loss": 1.0}, 7)
    logger.log_metrics({"late": 2.0})
    logger.save()
    logger.finalize("failed")


def test_everything_reaches_the_logger_inside() -> None:
    inner = Inner()
    logger = SafeLogger(inner, "mine")
    use(logger)
    assert inner.kept == [
        ("settings", {"a": 1}),
        ("metrics", {"loss": 1.0}, 7),
        ("metrics", {"late": 2.0}, 7),
        ("save",),
        ("end", "failed"),
    ]
    assert (logger.name, logger.version, logger.save_dir) == ("inner", 3, None)


def test_failures_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    use(SafeLogger(Inner(broken=True), "mine"))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 5
    assert "mine: metrics not logged: ConnectionError: server gone" in caplog.text
