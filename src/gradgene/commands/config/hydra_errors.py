"""Turns what Hydra and OmegaConf say about a command line into one line a newcomer understands.

Hydra's messages name a struct or a search path; the user wants the key that is wrong and the one
that was meant. So the overrides are read again, one by one, against the keys that the composed
configuration really has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradgene.commands.config.binding import missing_keys
from gradgene.commands.config.groups import groups
from gradgene.errors import ConfigError, closest

__all__ = ["HYDRA_ERRORS", "Line", "explain", "only_missing"]

HYDRA_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
_MOST_COMPOSITIONS = 64
# Plug-ins of Hydra that an extra installs: name on the line → package, extra.
_PLUGINS = {
    "joblib": ("hydra-joblib-launcher", "sweeps"),
    "optuna": ("hydra-optuna-sweeper", "sweeps"),
    "submitit_local": ("hydra-submitit-launcher", "slurm"),
    "submitit_slurm": ("hydra-submitit-launcher", "slurm"),
    "ray": ("hydra-ray-launcher", "ray"),
}


@dataclass(frozen=True)
class Line:
    """A command line as far as Hydra is concerned.

    Attributes
    ----------
    conf
        Directory of gradgene's own configuration.
    overrides
        `key=value` words.
    extra
        The user's `--config-dir`, or None.
    multirun
        Whether `-m` was given.
    root
        Name of the root configuration.
    """

    conf: Path
    overrides: tuple[str, ...] = ()
    extra: Path | None = None
    multirun: bool = False
    root: str = "config"
    leaves: dict[str, dict[str, Path]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        directories = [self.conf, *([self.extra] if self.extra else [])]
        self.leaves.update(groups(*directories))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the configuration with these overrides, `hydra` section included."""
        search = [f"hydra.searchpath=[file://{self.extra.resolve()}]"] if self.extra else []
        with initialize_config_dir(str(self.conf), version_base="1.3"):
            return compose(self.root, overrides=[*search, *overrides], return_hydra_config=True)


def explain(error: Exception, line: Line) -> ConfigError:
    """Find which override or file `error` is about, and say what would have been right."""
    try:
        return _from_line(error, line) or _by_message(error)
    except (*HYDRA_ERRORS, ValueError):  # what broke composing may break looking for it too
        return _by_message(error)


def _from_line(error: Exception, line: Line) -> ConfigError | None:
    """Read the overrides one by one until one does not fit the configuration."""
    if isinstance(error, OverrideParseException):
        return ConfigError(
            "cannot be read as key=value",
            where=error.override,
            fix="quote values with brackets, commas or colons twice: 'study.input=\"T (naive)\"'",
        )
    try:
        overrides = OverridesParser.create().parse_overrides([*line.overrides])
    except HydraException:
        overrides = []
    for override in overrides:
        found = _wrong_leaf(override, line) or _unwanted_sweep(override, line)
        if found:
            return found
    for cfg in _compositions(overrides, line):
        for override in overrides:
            found = _wrong_key(override, cfg, line)
            if found:
                return found
    return _missing_value(line)


def only_missing(cfg: DictConfig) -> ConfigError | None:
    """Return the error about mandatory values that nobody gave, or None when all are there."""
    keys = [key for key in missing_keys(cfg) if not key.startswith("hydra.")]
    if not keys:
        return None
    return ConfigError(
        "no value given",
        where=", ".join(keys),
        fix=f"add {' '.join(f'{key}=...' for key in keys)} to the command line, or choose an "
        "experiment that states it, for example experiment=demo",
    )


def _values(override: Override) -> list[Any]:
    """All values of an override, several when it is a sweep."""
    if override.is_discrete_sweep():
        return [v.strip("'\"") for v in override.sweep_string_iterator()]
    value = override.value()
    return list(value) if isinstance(value, list) else [value]


def _key(override: Override) -> str:
    return str(override.key_or_group)


def _wrong_leaf(override: Override, line: Line) -> ConfigError | None:
    leaves = line.leaves.get(_key(override))
    # Of Hydra's own groups most leaves come with plug-ins.
    if leaves is None or override.is_delete() or _key(override).startswith("hydra/"):
        return None
    for value in _values(override):
        if value is None or str(value) in leaves:
            continue
        return ConfigError(
            f"there is no {_key(override)} named {str(value)!r}",
            where=_key(override),
            expected=f"one of {closest(str(value), leaves)}",
            fix=f"`gradgene study --help` says what each {_key(override)} is",
        )
    return None


def _unwanted_sweep(override: Override, line: Line) -> ConfigError | None:
    if line.multirun or not override.is_sweep_override():
        return None
    key, text = _key(override), (override.input_line or "").partition("=")[2]
    fix = "add -m to run each in turn"
    if key not in line.leaves:
        fix += f", or write {key}=[{text}] for a list or '{key}=\"{text}\"' for one text"
    return ConfigError("several values were given for one run", where=key, found=text, fix=fix)


def _compositions(overrides: list[Override], line: Line) -> Iterator[DictConfig]:
    """Compose every choice of leaves on the line, without its other overrides."""
    chosen = [o for o in overrides if _key(o) in line.leaves and not o.is_delete()]
    choices = [[f"{_key(o)}={'null' if v is None else v}" for v in _values(o)] for o in chosen]
    for combination in itertools.islice(itertools.product(*choices), _MOST_COMPOSITIONS):
        try:
            yield line.compose(combination)
        except HYDRA_ERRORS:
            return


def _wrong_key(override: Override, cfg: DictConfig, line: Line) -> ConfigError | None:
    key = _key(override)
    if key in line.leaves or "/" in key or override.is_force_add():
        return None
    plain = OmegaConf.to_container(cfg, resolve=False, throw_on_missing=False)
    valid = dict(_dotted(plain))
    if override.is_add():
        return None if key not in valid else _already_there(key, override)
    if key not in valid:
        first = key.partition(".")[0]
        near = [k for k in valid if k.startswith(f"{first}.")] if "." in key else []
        near = near or [*{*line.leaves, *(k for k in valid if "." not in k)}]
        return ConfigError(
            "there is no such key", where=key, expected=f"one of {closest(key, sorted(near))}"
        )
    replaced = isinstance(valid[key], dict) and not override.is_delete()
    if replaced and not isinstance(override.value(), dict):
        return ConfigError(
            "is a section, not a single value",
            where=key,
            expected=f"one of {closest(key, [k for k in valid if k.startswith(f'{key}.')])}",
            found=str(override.get_value_element_as_str()),
        )
    return None


def _already_there(key: str, override: Override) -> ConfigError:
    return ConfigError(
        "is already in the configuration, so + cannot add it",
        where=key,
        fix=f"write {key}={override.get_value_element_as_str()} without the +",
    )


def _dotted(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{where}.{key}" if where else str(key)
        yield path, value
        if isinstance(value, dict):
            yield from _dotted(value, path)


def _missing_value(line: Line) -> ConfigError | None:
    try:
        plain = [o for o in line.overrides if not o.startswith("hydra.")]
        return only_missing(line.compose(plain))
    except HYDRA_ERRORS:
        return None


def _by_message(error: Exception) -> ConfigError:
    """Say what can be said from the exception alone: a mistake in a file rather than the line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        name = str(error.missing_cfg_file)
        package, extra = _PLUGINS.get(name.rpartition("/")[2], ("", ""))
        if package and name.startswith("hydra/"):
            return ConfigError(
                f"needs {package}, which is not installed",
                where=name,
                fix=f"pip install 'gradgene[{extra}]'",
            )
        options = [str(o) for o in error.options or ()]
        expected = f"one of {closest(name.rpartition('/')[2], options)}" if options else None
        return ConfigError("there is no such configuration file", where=name, expected=expected)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return ConfigError(
            f"is not valid YAML: {error.problem}",
            where=f"{mark.name}, line {mark.line + 1}",
            fix="mind the indentation, and quote ??? and labels with colons or braces",
        )
    if isinstance(error, OmegaConfBaseException):
        text = str(error.msg or error).partition("\n")[0]
        # A leaf refers to a fact of a study that a pretraining has not, or the other way round.
        fix = "choose leaves that belong to this command" if "Interpolation key" in text else None
        return ConfigError(text, where=error.full_key or None, fix=fix)
    text = str(error) or type(error).__name__
    if error.__cause__ is not None:
        text += f" ({str(error.__cause__).partition(chr(10))[0]})"
    return ConfigError(text, where="configuration")
