"""A package's door says what the package gives, and every name in it explains itself."""

from __future__ import annotations

import ast
from itertools import takewhile

import pytest

from tests.house.source import ROOT, Function, House, Module, assert_clean, build, house

SHORTEST = 40  # characters; below this a docstring only repeats the name
SHORTEST_COMMENT = 20  # a constant has no docstring: a comment above it or a string below


def undocumented(house: House) -> list[str]:
    """Doors without `__all__`, and public names that are missing, unexplained or hide errors."""
    complaints = []
    for door in house:
        if not door.is_door or door.name == ROOT:
            continue
        names = exported(door)
        if names is None:
            complaints.append(f"{door.path}: a door needs `__all__`, a plain list of strings")
            continue
        for name in names:
            fault = _fault(house, door, name)
            if fault:
                complaints.append(f"{door.path}: {name} {fault}")
    return complaints


def exported(door: Module) -> list[str] | None:
    """The names in `__all__`, None where it is absent or computed."""
    for node in door.tree.body:
        if isinstance(node, ast.Assign) and _binds(node, "__all__"):
            value: ast.expr | None = node.value
        elif isinstance(node, ast.AnnAssign) and _binds(node, "__all__"):
            value = node.value
        else:
            continue
        if not isinstance(value, ast.List | ast.Tuple):
            return None
        texts = [e.value if isinstance(e, ast.Constant) else None for e in value.elts]
        strings = [t for t in texts if isinstance(t, str)]
        return strings if len(strings) == len(texts) else None
    return None


def _fault(house: House, door: Module, name: str) -> str | None:
    found = definition(house, door, name, set())
    if found is None:
        return "is in `__all__` but not defined in this project"
    node, docstring = found
    if isinstance(node, ast.Assign | ast.AnnAssign):
        if len(docstring) < SHORTEST_COMMENT:
            return f"needs a comment of {SHORTEST_COMMENT} characters right above its definition"
    elif len(docstring) < SHORTEST:
        return f"needs a docstring of {SHORTEST} characters where it is defined"
    if (
        isinstance(node, Function)
        and _has_parameters(node)
        and _raises(node)
        and "Raises" not in docstring
    ):
        return "raises errors that its docstring does not explain (no 'Raises' in it)"
    return None


def definition(
    house: House, module: Module, name: str, seen: set[tuple[str, str]]
) -> tuple[ast.AST, str] | None:
    """Where a name is defined, followed through imports, with its docstring."""
    if (module.name, name) in seen:
        return None
    seen.add((module.name, name))
    found: tuple[ast.AST, str] | None = None
    body = _statements(module.tree.body)
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, Function | ast.ClassDef) and node.name == name:
            found = node, ast.get_docstring(node) or ""
        elif _binds(node, name):
            found = node, _string(following) or _comment(module, node)
        elif isinstance(node, ast.ImportFrom):
            found = _imported(house, module, node, name, seen) or found
    if found is None and (submodule := house.modules.get(f"{module.name}.{name}")):
        found = submodule.tree, ast.get_docstring(submodule.tree) or ""
    return found


def _imported(
    house: House, module: Module, node: ast.ImportFrom, name: str, seen: set[tuple[str, str]]
) -> tuple[ast.AST, str] | None:
    for alias in node.names:
        if (alias.asname or alias.name) != name:
            continue
        base = module.dotted(ast.Name(name)).rpartition(".")[0]
        if source := house.modules.get(base):
            return definition(house, source, alias.name, seen)
    return None


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Top-level statements, those under `if` and `try` included."""
    flat: list[ast.stmt] = []
    for node in body:
        flat.append(node)
        if isinstance(node, ast.If | ast.Try):
            flat += _statements([*node.body, *node.orelse])
    return flat


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return False
    names = (n for target in targets for n in ast.walk(target) if isinstance(n, ast.Name))
    return any(n.id == name for n in names)


def _string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value.value if isinstance(node.value.value, str) else ""
    return ""


def _comment(module: Module, node: ast.stmt) -> str:
    """The comment lines right above a statement."""
    lines = module.text.splitlines()[: node.lineno - 1]
    above = list(takewhile(lambda line: line.startswith("#"), reversed(lines)))
    return " ".join(line.lstrip("#: ") for line in reversed(above))


def _has_parameters(node: Function) -> bool:
    a = node.args
    return bool(a.posonlyargs or a.args or a.kwonlyargs or a.vararg or a.kwarg)


def _raises(function: Function) -> bool:
    """Whether the body itself, not a function inside it, raises a …Error."""
    todo: list[ast.AST] = [*function.body]
    while todo:
        node = todo.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(raised, ast.Name) and raised.id.endswith("Error"):
                return True
            if isinstance(raised, ast.Attribute) and raised.attr.endswith("Error"):
                return True
        todo += ast.iter_child_nodes(node)
    return False


def test_doors_explain_themselves() -> None:
    assert_clean(undocumented(house()))


LONG = '"""Cells n by genes g, counts per ten thousand, log1p."""'
RAISING = '"""Cells n by genes g, counts, log1p. Raises CellsError for negative counts."""'
DOOR = "from gradgene.cells.a import f\n__all__ = ['f']"


@pytest.mark.parametrize(
    "sources",
    [
        {"cells/__init__.py": ""},
        {"cells/__init__.py": "from .a import *\n__all__ = a.__all__"},
        {"cells/__init__.py": "__all__ = ['f', g]"},
        {"cells/__init__.py": "__all__ = ['f']"},
        {"cells/__init__.py": "from torch import Tensor\n__all__ = ['Tensor']"},
        {"cells/__init__.py": DOOR, "cells/a.py": "def f(): pass"},
        {"cells/__init__.py": DOOR, "cells/a.py": "def f():\n  'Does f.'"},
        {"cells/__init__.py": DOOR, "cells/a.py": "class f:\n  'A class f.'"},
        {"cells/__init__.py": DOOR, "cells/a.py": "f = 3"},
        {"cells/__init__.py": DOOR, "cells/a.py": "# The cells that are read first.\n\nf = 3"},
        {
            "cells/__init__.py": DOOR,
            "cells/a.py": "from .b import g as f",
            "cells/b.py": "def g(): ...",
        },
        {"cells/__init__.py": "from . import a\n__all__ = ['a']", "cells/a.py": "'Short.'"},
        {
            "cells/__init__.py": DOOR,
            "cells/a.py": f"def f(x):\n  {LONG}\n  if x:\n    raise CellsError('x')",
        },
        {
            "cells/__init__.py": DOOR,
            "cells/a.py": f"def f(*, x):\n  {LONG}\n  raise errors.CellsError",
        },
        {"cells/deep/__init__.py": "x = 1", "cells/__init__.py": "__all__ = []"},
    ],
)
def test_poor_doors_are_flagged(sources: dict[str, str]) -> None:
    assert undocumented(build(sources))


@pytest.mark.parametrize(
    "sources",
    [
        {"__init__.py": "__version__ = '1'"},
        {"cells/__init__.py": "__all__: list[str] = []"},
        {"cells/__init__.py": DOOR, "cells/a.py": f"class f:\n  {LONG}"},
        {"cells/__init__.py": DOOR, "cells/a.py": f"f = 3\n{LONG}"},
        {"cells/__init__.py": DOOR, "cells/a.py": "#: The cells that are read first.\nf, g = 3, 4"},
        {"cells/__init__.py": f"__all__ = ('f',)\ndef f():\n  {LONG}"},
        {"cells/__init__.py": "from . import a\n__all__ = ['a']", "cells/a.py": LONG},
        {
            "cells/__init__.py": "from .a import g as f\n__all__ = ['f']",
            "cells/a.py": "try:\n  from .b import h as g\nexcept ImportError:\n  raise",
            "cells/b.py": f"async def h():\n  {LONG}\n  raise CellsError('no parameters')",
        },
        {
            "cells/__init__.py": DOOR,
            "cells/a.py": f"def f(x):\n  {RAISING}\n  raise CellsError(x)",
        },
        {
            "cells/__init__.py": DOOR,
            "cells/a.py": f"def f(x):\n  {LONG}\n  def g():\n    raise CellsError(x)",
        },
    ],
)
def test_good_doors_pass(sources: dict[str, str]) -> None:
    assert_clean(undocumented(build(sources)))
