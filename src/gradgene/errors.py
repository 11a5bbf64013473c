"""Errors that a user can cause, each saying what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec

__all__ = [
    "AttributionError",
    "CellsError",
    "CheckpointError",
    "ConfigError",
    "EvaluationError",
    "GradgeneError",
    "LabelError",
    "OutputError",
    "PairError",
    "RankingError",
    "TokenError",
    "closest",
    "closest_first",
    "require_extra",
    "require_least",
]


class GradgeneError(Exception):
    """A mistake in what the user gave us; commands print it on one line and exit with code 2.

    Parameters
    ----------
    what
        What went wrong, as a clause without a full stop.
    where
        The argument, config key or file concerned.
    expected, found
        What would have been right, and what was there instead.
    fix
        What the user can do.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where = what, where
        self.expected, self.found, self.fix = expected, found, fix
        super().__init__(what)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        parts += [
            f"{name} {value}"
            for name, value in (
                ("expected", self.expected),
                ("found", self.found),
                ("to fix:", self.fix),
            )
            if value
        ]
        return " ".join("; ".join(parts).split())


class ConfigError(GradgeneError):
    """A key or value of the configuration is wrong."""


class CellsError(GradgeneError):
    """A cell file cannot be read or does not hold what the configuration says."""


class LabelError(CellsError):
    """A column or label named by the study is not in the cells."""


class TokenError(GradgeneError):
    """Cells and vocabulary do not fit together."""


class PairError(GradgeneError):
    """No matched pairs can be formed."""


class CheckpointError(GradgeneError):
    """A checkpoint is missing, damaged or of another kind."""


class AttributionError(GradgeneError):
    """An attribution cannot be computed or was asked for in a meaningless combination."""


class RankingError(GradgeneError):
    """A gene ranking is unknown or does not fit the model's genes."""


class EvaluationError(GradgeneError):
    """What was measured says that the results are not to be believed."""


class OutputError(GradgeneError):
    """Results cannot be written or do not belong to the present configuration."""


def closest(name: str, valid: Iterable[str], n: int = 8) -> str:
    """List `valid` names for a message, those most like `name` first, at most `n` of them."""
    names = closest_first(name, valid)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return (", ".join(repr(v) for v in names[:n]) or "(none)") + more


def closest_first(name: str, valid: Iterable[str]) -> list[str]:
    """The `valid` names, the three most like `name` first and the others in their order."""
    names = [str(v) for v in valid]
    near = get_close_matches(name, names, n=3, cutoff=0.4)
    return near + [v for v in names if v not in near]


def require_least(where: str, **numbers: tuple[float | None, float]) -> None:
    """Raise `ConfigError` for a number of the section `where` below the lowest given with it.

    Parameters
    ----------
    where
        Section of the configuration, such as `data`.
    numbers
        Key -> (number, lowest it may be); None is no number and passes.
    """
    for name, (number, lowest) in numbers.items():
        if number is not None and not number >= lowest:
            raise ConfigError(
                "is too small",
                where=f"{where}.{name}",
                expected=f"{lowest} or more",
                found=str(number),
            )


def require_extra(extra: str, *modules: str, where: str, otherwise: str = "") -> None:
    """Raise `ConfigError` saying what to install where a module of an extra is not installed.

    Parameters
    ----------
    extra, modules
        Name of the extra of gradgene, and the modules of it that are needed.
    where
        What needs them: an argument, a key or a command.
    otherwise
        What the user can do instead.
    """
    missing = [name.replace("_", "-") for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"needs {' and '.join(missing)}, which is not installed",
            where=where,
            fix=f"pip install 'gradgene[{extra}]'" + (f", or {otherwise}" if otherwise else ""),
        )
