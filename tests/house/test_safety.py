"""Nothing that runs a stranger's code, swallows an error, or talks past the commands."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import House, Module, assert_clean, build, house

# Calls that execute what is in the file they read.
PICKLES = {
    f"{package}.{function}"
    for package in ("pickle", "cloudpickle", "dill", "joblib")
    for function in ("load", "loads")
} | {"pandas.read_pickle"}

# Calls that are safe only with this argument, and calls that are safe only without it.
NEEDED = {"torch.load": ("weights_only", True)}
FORBIDDEN = {"numpy.load": ("allow_pickle", True)}

BROAD = {"Exception", "BaseException"}
LOUD = {"commands", "__main__"}  # the only rooms that print


def unsafe_loads(house: House) -> list[str]:
    """Unpickling of files that a user was given by somebody else."""
    complaints = []
    for module in house:
        for name, call in module.calls:
            given = {
                k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)
            }
            if name in PICKLES:
                complaints.append(f"{module.at(call.lineno)}: {name} runs what the file says")
            for table, wanted in ((NEEDED, True), (FORBIDDEN, False)):
                key, value = table.get(name, ("", None))
                if key and (given.get(key) is value) is not wanted:
                    need = "needs" if wanted else "must not have"
                    complaints.append(f"{module.at(call.lineno)}: {name} {need} {key}={value}")
    return complaints


def swallowed_errors(house: House) -> list[str]:
    """Bare `except:`, and broad ones that do nothing."""
    complaints = []
    for module in house:
        for node, _ in module.nodes.get(ast.ExceptHandler, ()):
            assert isinstance(node, ast.ExceptHandler)
            if node.type is None:
                complaints.append(f"{module.at(node.lineno)}: bare except")
            elif _broad(module, node.type) and all(map(_does_nothing, node.body)):
                complaints.append(f"{module.at(node.lineno)}: swallows every error")
        for name, call in module.calls:
            if name == "contextlib.suppress" and any(_broad(module, a) for a in call.args):
                complaints.append(f"{module.at(call.lineno)}: suppresses every error")
    return complaints


def _broad(module: Module, caught: ast.expr) -> bool:
    each = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(module.dotted(e) in BROAD for e in each)


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass | ast.Continue) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def prints(house: House) -> list[str]:
    """`print` below the commands: a library returns or logs."""
    return [
        f"{module.at(call.lineno)}: only commands/ print"
        for module in house
        if module.room not in LOUD
        for name, call in module.calls
        if name in ("print", "rich.print")
    ]


def test_loads_are_safe() -> None:
    assert_clean(unsafe_loads(house()))


def test_errors_are_not_swallowed() -> None:
    assert_clean(swallowed_errors(house()))


def test_only_commands_print() -> None:
    assert_clean(prints(house()))


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(f)",
        "from pickle import load as get\nget(f)",
        "import pandas as pd\npd.read_pickle(f)",
        "import torch\ntorch.load(f)",
        "import torch\ntorch.load(f, weights_only=False)",
        "import torch\ntorch.load(f, weights_only=flag)",
        "from torch import load\nload(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
    ],
)
def test_unsafe_loads_are_flagged(text: str) -> None:
    assert unsafe_loads(build({"checkpoints/a.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(f, weights_only=True)",
        "import numpy as np\nnp.load(f)",
        "import json\njson.load(f)",
        "reader.load(f)",
    ],
)
def test_safe_loads_pass(text: str) -> None:
    assert_clean(unsafe_loads(build({"checkpoints/a.py": text})))


@pytest.mark.parametrize(
    "text",
    [
        "try:\n  f()\nexcept:\n  raise",
        "try:\n  f()\nexcept Exception:\n  pass",
        "try:\n  f()\nexcept (ValueError, Exception) as e:\n  ...",
        "for x in y:\n  try:\n    f()\n  except BaseException:\n    continue",
        "from contextlib import suppress\nwith suppress(Exception):\n  f()",
    ],
)
def test_swallowed_errors_are_flagged(text: str) -> None:
    assert swallowed_errors(build({"cells/a.py": text}))


@pytest.mark.parametrize(
    "text",
    [
        "try:\n  f()\nexcept OSError:\n  pass",
        "try:\n  f()\nexcept Exception as e:\n  raise CellsError('x') from e",
        "from contextlib import suppress\nwith suppress(FileNotFoundError):\n  f()",
    ],
)
def test_handled_errors_pass(text: str) -> None:
    assert_clean(swallowed_errors(build({"cells/a.py": text})))


@pytest.mark.parametrize("path", ["errors.py", "cells/a.py", "lit/a.py", "reports/a.py"])
def test_prints_are_flagged(path: str) -> None:
    assert prints(build({path: "print('x')"}))
    assert prints(build({path: "from rich import print\nprint('x')"}))


def test_commands_may_print() -> None:
    assert_clean(prints(build({"commands/a.py": "print('x')", "__main__.py": "print('x')"})))
