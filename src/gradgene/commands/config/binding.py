"""Checks the whole configuration against the signatures it will be given to, and builds from it.

`bind` runs before anything else does, so that a typo in any file or override is an error that
names the key and the closest valid ones, not a parameter silently ignored an hour later.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from gradgene.commands.config.targets import convert, locate, parameters
from gradgene.errors import ConfigError, GradgeneError, closest

__all__ = ["MISSING", "SECTIONS", "bind", "build", "missing_keys"]

MISSING = "???"
# Top-level sections that are facts, not something to build: each is checked against a dataclass.
SECTIONS: dict[str, str] = {
    "study": "gradgene.commands.config.facts.StudyFacts",
    "paths": "gradgene.commands.config.facts.Paths",
    "sweep": "gradgene.commands.config.facts.SweepFacts",
}
_RUN_FACTS = "gradgene.commands.config.facts.RunFacts"
_SPECIAL = ("_target_", "_partial_", "_recursive_", "_convert_")


def bind(cfg: DictConfig | Mapping[str, Any], *, missing_ok: bool = False) -> None:
    """Check every node of a composed configuration; nothing is built except the plain facts.

    Parameters
    ----------
    cfg
        The composed configuration, without the `hydra` section. Not changed.
    missing_ok
        Whether mandatory values may still be `???` (for checking files that ask for them).

    Raises
    ------
    ConfigError
        When a value is missing, a key is not a parameter of its target, a required parameter is
        absent, a value has another type than the annotation, or a target is not allowed.
    """
    missing = missing_keys(cfg)
    if missing and not missing_ok:
        raise ConfigError(
            "no value given",
            where=", ".join(missing),
            fix=f"add {' '.join(f'{key}=...' for key in missing)} to the command line, or choose "
            "an experiment that states it (experiment=demo)",
        )
    sections = _plain(cfg)
    for name, section in sections.items():
        if name in SECTIONS:
            _bind_facts(str(name), section)
        else:
            _check(section, str(name), others=[*map(str, sections)])


def build(node: Any, /, **more: Any) -> Any:
    """Build what a node of the configuration describes.

    Parameters
    ----------
    node
        A node with `_target_` gives the object (`_partial_: true` gives a `functools.partial`);
        a mapping without gives a dict of built objects, a list a list, null entries left out;
        null gives None.
    more
        Further arguments for the target of `node` itself, as they are; they win over the node's.

    Raises
    ------
    ConfigError
        As `bind`, or when a third-party target rejects its values.
    """
    plain = _plain(node)
    where = str(node._get_full_key(None)) if isinstance(node, DictConfig | ListConfig) else ""
    where = where or "config"
    _check(plain, where, given=more)
    if more and not (isinstance(plain, dict) and "_target_" in plain):
        raise ConfigError("has no _target_ to give arguments to", where=where)
    return _build(plain, where, more)


def missing_keys(cfg: DictConfig | Mapping[str, Any]) -> list[str]:
    """List the dotted keys whose value is still `???`, in the order of the file."""
    plain = OmegaConf.to_container(_config(cfg), resolve=False, throw_on_missing=False)

    def walk(node: Any, where: str) -> Iterable[str]:
        if node == MISSING:
            yield where
        elif isinstance(node, dict | list):
            for key, value in node.items() if isinstance(node, dict) else enumerate(node):
                yield from walk(value, f"{where}.{key}" if where else str(key))

    return list(walk(plain, ""))


def _config(cfg: Any) -> Any:
    return cfg if isinstance(cfg, DictConfig | ListConfig) else OmegaConf.create(cfg)


def _plain(cfg: Any) -> Any:
    """Resolve to plain dicts, lists and scalars."""
    if not isinstance(cfg, DictConfig | ListConfig | Mapping | list | tuple):
        return cfg
    return OmegaConf.to_container(_config(cfg), resolve=True, throw_on_missing=False)


def _bind_facts(name: str, section: Any) -> None:
    if not isinstance(section, dict):
        raise ConfigError(
            "is a section, not a single value",
            where=name,
            expected="keys below it",
            found=repr(section),
            fix=f"write {name}.KEY=...",
        )
    asks = name != "study" or "target" in section  # a pretraining explains no label
    node = {"_target_": SECTIONS[name] if asks else _RUN_FACTS, **section}
    _check(node, name)
    if MISSING not in section.values():
        _build(node, name, {})


def _check(
    node: Any,
    where: str,
    given: Iterable[str] = (),
    others: Iterable[str] = (),
    inside: bool = False,
) -> None:
    """Check `node` and all below it.

    `given` are arguments that come at building, `others` the names of the fellow sections,
    `inside` says that a target above takes what is here.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            _check(item, f"{where}.{index}", others=others, inside=inside)
    elif isinstance(node, dict):
        if "_target_" in node:
            _check_call(node, where, given)
            inside = True
        for key, value in node.items():
            _check(value, f"{where}.{key}", inside=inside)
    elif node is not None and not inside:
        # Outside a target nothing reads a value, so it can only be a mistake.
        raise ConfigError(
            "unknown key: no _target_ beside it takes this value",
            where=where,
            expected=f"one of {closest(where, others)}" if others else None,
            found=repr(node),
        )


def _check_call(node: dict[str, Any], where: str, given: Iterable[str]) -> None:
    target = locate(node["_target_"], where)
    takes = parameters(target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
    named = {
        name: p
        for name, p in takes.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name != "self"
    }
    for key, value in node.items():
        if key in _SPECIAL:
            continue
        if key in named:
            if not _holds_target(value) and value != MISSING:
                convert(named[key].annotation, value, f"{where}.{key}")
        elif not open_ended or str(key).startswith("_"):
            raise ConfigError(
                f"unknown key for {node['_target_']}",
                where=f"{where}.{key}",
                expected=f"one of {closest(str(key), named)}" if named else "no keys at all",
            )
    if node.get("_partial_") is True:
        return
    absent = [
        name
        for name, p in named.items()
        if p.default is inspect.Parameter.empty and name not in node and name not in set(given)
    ]
    if absent:
        raise ConfigError(
            f"{node['_target_']} needs a value for {', '.join(map(repr, absent))}",
            where=where,
            fix=" ".join(f"{where}.{name}=..." for name in absent),
        )


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(map(_holds_target, value.values()))
    return isinstance(value, list) and any(map(_holds_target, value))


def _build(node: Any, where: str, more: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_build(n, f"{where}.{i}", {}) for i, n in enumerate(node) if n is not None]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {k: _build(v, f"{where}.{k}", {}) for k, v in node.items() if v is not None}
    target = locate(node["_target_"], where)
    takes = parameters(target)
    arguments: dict[str, Any] = {}
    for key, value in node.items():
        if key in _SPECIAL or key in more:
            continue
        if _holds_target(value):
            deep = node.get("_recursive_", True)
            arguments[key] = _build(value, f"{where}.{key}", {}) if deep else value
        else:
            arguments[key] = (
                convert(takes[key].annotation, value, f"{where}.{key}") if key in takes else value
            )
    arguments.update(more)
    if node.get("_partial_") is True:
        return functools.partial(target, **arguments)
    return _call(target, arguments, node["_target_"], where)


def _call(target: Any, arguments: dict[str, Any], name: str, where: str) -> Any:
    try:
        return target(**arguments)
    except GradgeneError:
        raise
    except Exception as error:
        # Our own classes check their arguments with GradgeneError; what others say of a bad value
        # (Lightning's MisconfigurationException, ValueError) becomes the user's one line.
        ours = name.startswith("gradgene.")
        value_error = isinstance(error, ValueError | TypeError)
        if ours or not (value_error or type(error).__name__ == "MisconfigurationException"):
            raise
        raise ConfigError(f"{name} rejects its values: {error}", where=where) from error
