"""Run a notebook's code as a test."""

from __future__ import annotations

import json
from typing import Any

from tests.conftest import REPOSITORY

__all__ = ["code_cells", "run_notebook"]


def code_cells(name: str) -> list[str]:
    """The code of `notebooks/<name>`, cell by cell; committed without outputs."""
    cells = json.loads((REPOSITORY / "notebooks" / name).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5 and not any(cell["outputs"] for cell in code)
    return ["".join(cell["source"]) for cell in code]


def run_notebook(name: str) -> dict[str, Any]:
    """Run a notebook's code top to bottom in the folder we are in; its names at the end."""
    names: dict[str, Any] = {}
    for number, source in enumerate(code_cells(name)):
        exec(compile(source, f"{name}, code cell {number}", "exec"), names)
    return names
