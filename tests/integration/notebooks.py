"""Run a notebook's code as a test."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.conftest import REPOSITORY

__all__ = ["code_cells", "run_notebook"]


def code_cells(name: str) -> list[str]:
    """The code of `notebooks/<name>`, cell by cell; committed without outputs."""
    cells = json.loads((REPOSITORY / "notebooks" / name).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5 and not any(cell["outputs"] for cell in code)
    return ["".join(cell["source"]) for cell in code]


def run_notebook(name: str, **smaller: object) -> dict[str, Any]:
    """Run a notebook's code top to bottom in the folder we are in; its names at the end.

    `smaller` are other values of settings that it gives as words: last part of the key -> value.
    """
    names: dict[str, Any] = {}
    left = {*smaller}
    for number, source in enumerate(code_cells(name)):
        for key, value in smaller.items():
            source, n = re.subn(rf'(?<=\.{key}=)[^"]+(?=")', str(value), source)
            left -= {key} if n else set()
        exec(compile(source, f"{name}, code cell {number}", "exec"), names)
    assert not left, f"{name} has no setting {left}"
    return names
