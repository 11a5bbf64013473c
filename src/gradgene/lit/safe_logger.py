"""A logger that may fail without failing what it logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

from gradgene.provenance import redacted

__all__ = ["SafeLogger"]

_log = logging.getLogger(__name__)


class SafeLogger(Logger):
    """A Lightning logger whose failures are warnings: a tracker must not cost hours of training.

    Parameters
    ----------
    inner
        The logger that does the work.
    called
        What warnings call it, such as `wandb`.

    Attributes
    ----------
    last_step
        The highest step that was logged, 0 before any.
    """

    def __init__(self, inner: Logger, called: str) -> None:
        super().__init__()
        self.inner, self.called, self.last_step = inner, called, 0

    def attempt(self, what: str, work: Callable[[], Any]) -> None:
        """Do `work`; what it raises, of whatever kind, is a warning that names `what`."""
        try:
            work()
        except Exception as error:  # a service's failure must not cost a run
            said = redacted(str(error))
            _log.warning("%s: %s not logged: %s: %s", self.called, what, type(error).__name__, said)
            _log.debug("%s: %s", self.called, what, exc_info=True)

    @property
    def name(self) -> str | None:
        """The inner logger's name of the experiment."""
        return self.inner.name

    @property
    def version(self) -> int | str | None:
        """The inner logger's version of the experiment."""
        return self.inner.version

    @property
    def save_dir(self) -> str | None:
        """Where the inner logger writes."""
        return self.inner.save_dir

    @property
    def experiment(self) -> Any:
        """What the inner logger writes to."""
        return self.inner.experiment  # type: ignore[attr-defined]

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures at `step`, which is the last step where it is None."""
        self.last_step = max(self.last_step, step or 0)
        at = self.last_step if step is None else step
        self.attempt("metrics", lambda: self.inner.log_metrics(dict(metrics), at))

    def log_hyperparams(self, params: Any, *more: Any, **named: Any) -> None:
        """Log the settings of the experiment."""
        self.attempt("settings", lambda: self.inner.log_hyperparams(params, *more, **named))

    def save(self) -> None:
        """Write what the inner logger holds back."""
        self.attempt("what was held back", self.inner.save)

    def finalize(self, status: str) -> None:
        """Tell the inner logger how it went: `success` or `failed`."""
        self.attempt("the end", lambda: self.inner.finalize(status))
