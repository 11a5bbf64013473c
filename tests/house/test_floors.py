"""Imports go down the floors of design.md, never up, never sideways, never round."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.house.source import House, assert_clean, build, house, room_of

FLOORS: dict[str, float] = {
    "errors": 0,
    "checks": 0.5,
    "halving": 0.5,
    "modes": 0.5,
    "seeding": 0.5,
    "provenance": 0.5,
    "plotting": 0.5,
    "cells": 1,
    "tokens": 2,
    "pairs": 3,
    "models": 3,
    "checkpoints": 4,
    "attribution": 4,
    "genes": 5,
    "pruning": 6,
    "store": 6,
    "evaluation": 7,
    "lit": 8,
    "reports": 8,
    "commands": 9,
    "__main__": 10,
}


def wrong_floors(house: House) -> list[str]:
    """Imports of the same floor or a higher one, and rooms that have no floor."""
    complaints = []
    for module in house:
        room = module.room
        if room and room not in FLOORS:
            complaints.append(f"{module.path}: {room!r} has no floor in tests/house/test_floors.py")
            continue
        # The root stands under everything: it may import nothing, everyone may import it.
        here = FLOORS[room] if room else -1
        for found in module.imports:
            target = room_of(found.target) if found.own else ""
            if not target or target == room:
                continue
            there = FLOORS.get(target)
            if there is None:
                complaints.append(f"{module.at(found.line)}: {found.target} is on no floor")
            elif there >= here:
                way = "sideways" if there == here else "up"
                complaints.append(
                    f"{module.at(found.line)}: {room or 'the root'} (floor {here}) imports"
                    f" {way} from {target} (floor {there})"
                )
    return complaints


def cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """One complaint for each way back to a node that is still being visited."""
    complaints: list[str] = []
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> None:
        if node in path:
            complaints.append("cycle: " + " → ".join([*path[path.index(node) :], node]))
        elif node not in done:
            for following in sorted(graph.get(node, ())):
                visit(following, [*path, node])
            done.add(node)

    for node in sorted(graph):
        visit(node, [])
    return complaints


def module_cycles(house: House) -> list[str]:
    """Cycles between files, a package's door included."""
    graph: dict[str, set[str]] = {}
    for module in house:
        targets = {house.resolve(i.target) for i in module.imports if i.own}
        graph[module.name] = {t.name for t in targets if t} - {module.name}
    return cycles(graph)


def package_cycles(house: House) -> list[str]:
    """Cycles between the rooms of the house."""
    graph: dict[str, set[str]] = {}
    for module in house:
        targets = {room_of(i.target) for i in module.imports if i.own}
        graph.setdefault(module.room, set()).update(targets - {module.room, ""})
    return cycles(graph)


def folder_cycles(house: House) -> list[str]:
    """Cycles between the folders of a room, and the files beside them; its door counts for none."""
    graph: dict[str, set[str]] = {}
    for module in house:
        targets = {house.resolve(i.target) for i in module.imports if i.own}
        here = _place(module.name)
        inside = {_place(t.name) for t in targets if t and t.room == module.room}
        graph.setdefault(here, set()).update({p for p in inside if p.count(".") > 1} - {here})
    return cycles(graph)


def _place(name: str) -> str:
    return ".".join(name.split(".")[:3])


def test_imports_go_down() -> None:
    assert_clean(wrong_floors(house()))


def test_no_module_cycle() -> None:
    assert_clean(module_cycles(house()))


def test_no_package_cycle() -> None:
    assert_clean(package_cycles(house()))


def test_no_folder_cycle() -> None:
    assert_clean(folder_cycles(house()))


@pytest.mark.parametrize(
    "sources",
    [
        {"cells/a.py": "from gradgene.tokens import Vocabulary"},
        {"cells/a.py": "import gradgene.tokens.vocabulary as v"},
        {"cells/a.py": "from gradgene import tokens"},
        {"cells/a.py": "from ..tokens import Vocabulary"},
        {"cells/__init__.py": "from .. import tokens"},
        {"cells/deep/a.py": "from ...tokens import Vocabulary"},
        {"cells/a.py": "from importlib import import_module\nimport_module('gradgene.tokens')"},
        {"cells/a.py": "def f():\n    from gradgene.tokens import Vocabulary"},
        {"cells/a.py": "if TYPE_CHECKING:\n    from gradgene.lit import PhenotypeModule"},
        {"pairs/a.py": "from gradgene.models import outputs"},
        {"pruning/a.py": "from gradgene.store import AttributionStore"},
        {"lit/a.py": "from gradgene.reports import page"},
        {"checks.py": "from gradgene.modes import explaining"},
        {"errors.py": "from gradgene.checks import shape"},
        {"reports/a.py": "from gradgene.commands import main"},
        {"commands/a.py": "import gradgene.__main__"},
        {"__init__.py": "from gradgene.errors import GradgeneError"},
        {"cells/a.py": "from gradgene import Cells"},
        {"shed/a.py": "x = 1"},
        {"shed.py": "x = 1"},
    ],
)
def test_wrong_floors_are_flagged(sources: dict[str, str]) -> None:
    assert wrong_floors(build(sources))


@pytest.mark.parametrize(
    "sources",
    [
        {"tokens/a.py": "from gradgene.cells import Cells"},
        {"tokens/a.py": "from gradgene.tokens.vocabulary import Vocabulary"},
        {"tokens/a.py": "from ..errors import TokenError\nfrom .b import c"},
        {"checks.py": "from gradgene.errors import GradgeneError"},
        {"provenance.py": "from gradgene import __version__"},
        {"__main__.py": "from gradgene.commands.main import main"},
        {"__init__.py": "__version__ = '1'"},
    ],
)
def test_right_floors_pass(sources: dict[str, str]) -> None:
    assert_clean(wrong_floors(build(sources)))


@pytest.mark.parametrize(
    "sources",
    [
        {"cells/a.py": "from .b import x", "cells/b.py": "from .a import y"},
        {"cells/__init__.py": "from .a import x", "cells/a.py": "from gradgene.cells import y"},
        {
            "cells/a.py": "from . import b",
            "cells/b.py": "import gradgene.cells.c",
            "cells/c.py": "def f():\n    from gradgene.cells import a",
        },
    ],
)
def test_module_cycles_are_flagged(sources: dict[str, str]) -> None:
    assert module_cycles(build(sources))


def test_a_door_may_import_its_rooms() -> None:
    sources = {
        "cells/__init__.py": "from gradgene.cells.a import x\nfrom . import b",
        "cells/a.py": "from gradgene.cells.b import y",
        "cells/b.py": "y = 1",
    }
    assert_clean(module_cycles(build(sources)))


def test_package_cycles_are_flagged() -> None:
    sources = {
        "cells/a.py": "from gradgene.tokens.b import x",
        "tokens/b.py": "y = 1",
        "tokens/c.py": "from gradgene.cells.d import z",
        "cells/d.py": "z = 1",
    }
    assert not module_cycles(build(sources))
    assert package_cycles(build(sources))


def test_folder_cycles_are_flagged() -> None:
    sources = {
        "commands/run/folder.py": "from gradgene.commands.line.options import x",
        "commands/line/options.py": "y = 1",
        "commands/line/help.py": "from gradgene.commands.run.memory import z",
        "commands/run/memory.py": "z = 1",
    }
    assert not module_cycles(build(sources)) and not package_cycles(build(sources))
    assert folder_cycles(build(sources))
    del sources["commands/line/help.py"]
    assert not folder_cycles(build(sources))
