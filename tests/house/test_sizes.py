"""Files and functions that fit on a screen or two, in files named after what they hold."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.house.source import House, assert_clean, build, house

FILE_LINES = 400
FUNCTION_LINES = 60
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}


def long_files(house: House) -> list[str]:
    """Files above the limit."""
    lengths = {m.path: len(m.text.splitlines()) for m in house}
    return [f"{p}: {n} lines, at most {FILE_LINES}" for p, n in lengths.items() if n > FILE_LINES]


def long_functions(house: House) -> list[str]:
    """Functions above the limit, counted from `def` to the last line, docstring included."""
    complaints = []
    for module in house:
        for function in module.functions:
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES:
                complaints.append(
                    f"{module.at(function.lineno)}: {function.name} has {lines} lines,"
                    f" at most {FUNCTION_LINES}"
                )
    return complaints


def nameless_files(house: House) -> list[str]:
    """Files and folders whose name does not say what is in them."""
    return [
        f"{module.path}: name it after what it holds"
        for module in house
        if any(p.strip("_") in NAMELESS for p in PurePosixPath(module.path).with_suffix("").parts)
    ]


def test_files_are_short() -> None:
    assert_clean(long_files(house()))


def test_functions_are_short() -> None:
    assert_clean(long_functions(house()))


def test_files_have_names() -> None:
    assert_clean(nameless_files(house()))


def test_long_files_are_flagged() -> None:
    assert long_files(build({"cells/a.py": "x = 1\n" * (FILE_LINES + 1)}))
    assert not long_files(build({"cells/a.py": "x = 1\n" * FILE_LINES}))


@pytest.mark.parametrize("head", ["def f():", "async def f():", "class A:\n  def f():"])
def test_long_functions_are_flagged(head: str) -> None:
    body = "\n    x = 1"
    assert long_functions(build({"cells/a.py": head + body * FUNCTION_LINES}))
    assert not long_functions(build({"cells/a.py": head + body * (FUNCTION_LINES - 1)}))


@pytest.mark.parametrize("path", ["cells/utils.py", "cells/_helpers.py", "cells/common/a.py"])
def test_nameless_files_are_flagged(path: str) -> None:
    assert nameless_files(build({path: ""}))
