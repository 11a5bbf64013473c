"""What a `_target_` may be, what parameters it takes and whether a value fits one of them."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic import ValidationError as PydanticError

from gradgene.errors import ConfigError, closest

__all__ = ["convert", "locate", "parameters"]

# A configuration file must not be able to call arbitrary functions such as os.system.
_ALLOWED = (
    "gradgene.",
    "lightning.Trainer",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
)
# Where the object itself must live, whatever name led to it.
_HOMES = ("gradgene.", "lightning.")
# What pydantic says of an annotation that no JSON value can have (a module, a callable, a class).
_UNCHECKABLE = {
    "needs_python_object",
    "is_instance_of",
    "is_subclass_of",
    "callable_type",
}


def locate(target: object, where: str) -> Callable[..., Any]:
    """Import the object that `_target_` at config key `where` names.

    Raises
    ------
    ConfigError
        When the name is outside the allowed packages, cannot be imported or is not callable.
    """
    if not isinstance(target, str) or not target.startswith(_ALLOWED):
        raise ConfigError(
            "this _target_ is not allowed",
            where=f"{where}._target_",
            expected="a dotted name starting with one of " + ", ".join(_ALLOWED),
            found=repr(target),
        )
    pieces = target.split(".")
    if not all(p.isidentifier() and not p.startswith("_") for p in pieces):
        raise ConfigError(
            "is not a public dotted name", where=f"{where}._target_", found=repr(target)
        )
    found = _walk(pieces, where)
    home = getattr(found, "__module__", None) or ""
    # `gradgene.x.os.system` starts with an allowed word too: the object's own home decides.
    if not callable(found) or not f"{home}.".startswith(_HOMES):
        raise ConfigError(
            "this _target_ is not a class or function of an allowed package",
            where=f"{where}._target_",
            found=f"{target!r} from {home or 'nowhere'}",
        )
    return found


def _walk(pieces: list[str], where: str) -> Any:
    """Import the longest module that `pieces` begin with, then take the attributes that follow."""
    module, used = importlib.import_module(pieces[0]), 1
    for count in range(2, len(pieces) + 1):
        name = ".".join(pieces[:count])
        try:
            module, used = importlib.import_module(name), count
        except ModuleNotFoundError as missing:
            # A module that exists but lacks one of its own imports is another matter.
            if missing.name is None or not f"{name}.".startswith(f"{missing.name}."):
                raise ConfigError(
                    f"cannot be imported because {missing.name!r} is not installed",
                    where=f"{where}._target_",
                    found=repr(".".join(pieces)),
                    fix=f"install {missing.name}",
                ) from missing
            break
    found: Any = module
    for count, piece in enumerate(pieces[used:], used):
        if not hasattr(found, piece):
            public = [n for n in dir(found) if not n.startswith("_")]
            raise ConfigError(
                f"{'.'.join(pieces[:count])!r} holds no {piece!r}",
                where=f"{where}._target_",
                expected=closest(piece, getattr(found, "__all__", public)),
            )
        found = getattr(found, piece)
    return found


@cache
def parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function with their annotations resolved to objects.

    An annotation that cannot be resolved (imported for type checkers only) becomes `Any`.
    """
    signature = inspect.signature(target)
    function = target.__init__ if inspect.isclass(target) else target  # type: ignore[misc]
    function = inspect.unwrap(function)
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return {
        name: parameter.replace(annotation=_resolve(parameter.annotation, names))
        for name, parameter in signature.parameters.items()
    }


def _resolve(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any

    def holder() -> None: ...

    holder.__annotations__ = {"value": annotation}
    try:
        return get_type_hints(holder, globalns=names, include_extras=True)["value"]
    except Exception:  # any error of evaluating somebody's annotation means: unknown
        return Any


def convert(annotation: Any, value: object, where: str) -> Any:
    """Check a plain YAML value against an annotation and return it as that type (list → tuple).

    Strict: text is not a number, a number is not text, an integer will do for a float. An
    annotation that no YAML value can have (a module, a vocabulary) is not checked.

    Raises
    ------
    ConfigError
        Naming the key, the type expected and the value found.
    """
    if annotation is Any:
        return value
    try:
        adapter = _adapter(annotation)
    except TypeError:  # it has no hash
        adapter = _adapter.__wrapped__(annotation)
    if adapter is None:
        return value
    try:
        result = adapter.validate_json(json.dumps(value, default=str), strict=True)
    except PydanticError as error:
        problems = [p for p in error.errors() if p["type"] not in _UNCHECKABLE]
        if not problems:
            return value
        raise _wrong_type(annotation, value, where, problems[0]) from None
    # pydantic checks iterables lazily and hands back its own iterator.
    return value if type(result).__name__ == "ValidatorIterator" else result


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    for config in (None, ConfigDict(arbitrary_types_allowed=True)):
        try:
            return TypeAdapter(annotation, config=config)
        except PydanticSchemaGenerationError:
            continue
        except PydanticUserError:
            return None
    return None


def _wrong_type(annotation: Any, value: object, where: str, problem: Any) -> ConfigError:
    expected = _spell(annotation)
    fix = None
    if problem["type"] == "literal_error":
        expected = str(problem.get("ctx", {}).get("expected", expected))
    elif problem["type"] == "string_type" and isinstance(problem.get("input"), bool | int | float):
        fix = f"quote it if it is a name: '{where}=\"{problem['input']}\"'"
    elif isinstance(value, str) and re.fullmatch(r"[-+.\deE]+|true|false", value.strip()):
        fix = f"write {where}={value.strip()} without quotes"
    return ConfigError(
        "wrong type or value",
        where=where,
        expected=expected,
        found=f"{value!r} ({type(value).__name__})",
        fix=fix,
    )


def _spell(annotation: Any) -> str:
    """Write an annotation as one would in a signature."""
    if inspect.isclass(annotation) and not getattr(annotation, "__args__", None):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
