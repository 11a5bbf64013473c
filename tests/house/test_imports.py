"""Who may import which third-party package, where in a file, and that it is declared."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest

from tests.house.source import REPOSITORY, ROOT, House, Import, Module, assert_clean, build, house

# Third-party package → the paths under src/gradgene that may touch it.
ONLY = {
    "hydra": ("commands/",),
    "lightning": ("lit/", "commands/"),
    "pytorch_lightning": ("lit/", "commands/"),
    "wandb": ("reports/wandb.py", "reports/wandb_"),
}

# Packages that a function may import, because only an extra installs them: package → extra.
OPTIONAL: dict[str, str] = {
    "cellxgene_census": "census",
    "gseapy": "enrichment",
    "peft": "lora",
    "transformers": "benchmark",
    "wandb_workspaces": "dashboards",
}

# Import name → name on the index, where they differ by more than "_" for "-".
DISTRIBUTION = {"hydra": "hydra-core", "sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow"}


def trespassers(house: House) -> list[str]:
    """Third-party packages imported where they do not belong."""
    complaints = []
    for module in house:
        for found in module.imports:
            package = _restricted(found)
            if package and not module.path.startswith(ONLY[package]):
                allowed = " and ".join(ONLY[package])
                complaints.append(f"{module.at(found.line)}: only {allowed} may import {package}")
    return complaints


def _restricted(found: Import) -> str | None:
    if found.own:
        return None
    # lightning.pytorch.loggers.WandbLogger is W&B, whoever ships it.
    if any(part.lower().startswith("wandb") for part in found.target.split(".")):
        return "wandb"
    return found.top if found.top in ONLY else None


def hidden_imports(house: House, optional: dict[str, str]) -> list[str]:
    """Imports inside functions, and computed imports outside commands/."""
    complaints = []
    for module in house:
        for found in module.imports:
            if not found.target:
                # Commands are loaded by name, so that --help does not wait for torch.
                if module.room != "commands":
                    complaints.append(f"{module.at(found.line)}: only commands/ import by name")
            elif found.in_function and (found.own or found.top not in optional):
                complaints.append(
                    f"{module.at(found.line)}: {found.target} is imported inside a function;"
                    " only packages listed in OPTIONAL of tests/house/test_imports.py may be"
                )
            elif found.dynamic and found.own:
                complaints.append(f"{module.at(found.line)}: import {found.target} by statement")
    return complaints


def undeclared(house: House, dependencies: set[str], extras: set[str]) -> list[str]:
    """Third-party imports missing from pyproject.toml; extras count only inside functions."""
    complaints = []
    for module in house:
        for found in module.imports:
            if not found.target or found.own or found.top in sys.stdlib_module_names:
                continue
            name = DISTRIBUTION.get(found.top, found.top).replace("_", "-").lower()
            if name not in (dependencies | extras if found.in_function else dependencies):
                complaints.append(f"{module.at(found.line)}: {name} is not in pyproject.toml")
    return complaints


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", r)[0].replace("_", "-").lower() for r in requirements}


def crowded_root(root: Module) -> list[str]:
    """Anything in the root's `__init__` besides a docstring and `__version__`."""
    complaints = []
    for line in root.text.splitlines():
        if re.match(r"(from|import|def|class|if|try)\b", line) and "__future__" not in line:
            complaints.append(f"{root.path}: the root holds __version__ only, found {line!r}")
        name = re.match(r"(\w+)\s*[:=]", line)
        if name and name[1] not in ("__version__", "__all__"):
            complaints.append(f"{root.path}: the root exports __version__ only, found {name[1]!r}")
    return complaints


def test_third_parties_stay_in_their_rooms() -> None:
    assert_clean(trespassers(house()))


def test_imports_stand_at_the_top() -> None:
    assert_clean(hidden_imports(house(), OPTIONAL))


def test_imports_are_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    extras = [line for name, group in groups.items() if name != "dev" for line in group]
    assert_clean(undeclared(house(), _names(project["dependencies"]), _names(extras)))


def test_root_exports_the_version_only() -> None:
    root = house().modules[ROOT]
    assert re.search(r"^__version__ = ", root.text, re.MULTILINE)
    assert_clean(crowded_root(root))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cells/a.py", "import hydra"),
        ("lit/a.py", "from hydra.utils import instantiate"),
        ("models/a.py", "import lightning.pytorch as pl"),
        ("models/a.py", "from lightning import pytorch"),
        ("reports/a.py", "import pytorch_lightning as pl"),
        ("models/a.py", "if TYPE_CHECKING:\n    import lightning"),
        ("commands/a.py", "import wandb"),
        ("reports/page.py", "from wandb.sdk import Image"),
        ("reports/wandbooks.py", "import wandb"),
        ("commands/a.py", "import wandb_workspaces"),
        ("lit/a.py", "from lightning.pytorch.loggers import WandbLogger"),
        ("lit/a.py", "import importlib\nimportlib.import_module('wandb')"),
        ("lit/a.py", "__import__('wandb')"),
    ],
)
def test_trespassers_are_flagged(path: str, text: str) -> None:
    assert trespassers(build({path: text}))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("commands/a.py", "import hydra\nimport lightning"),
        ("lit/deep/a.py", "from lightning.pytorch import Callback"),
        ("reports/wandb.py", "import wandb"),
        ("reports/wandb_tables.py", "import wandb"),
        (
            "commands/a.py",
            "from gradgene.reports.wandb import log\nfrom gradgene.reports import wandb",
        ),
        ("models/a.py", "import torch"),
    ],
)
def test_residents_pass(path: str, text: str) -> None:
    assert_clean(trespassers(build({path: text})))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("cells/a.py", "def f():\n    import torch"),
        ("cells/a.py", "def f():\n    from gradgene.errors import CellsError"),
        ("cells/a.py", "class A:\n    async def f(self):\n        from . import b"),
        ("commands/a.py", "import importlib\ndef f():\n    importlib.import_module('torch')"),
        ("cells/a.py", "from importlib import import_module as get\nget(NAMES['x'])"),
        ("cells/a.py", "import importlib\nimportlib.import_module('gradgene.errors')"),
        ("cells/a.py", "import importlib\nimportlib.import_module('.b', __package__)"),
        ("commands/a.py", "f = lambda: __import__('torch')"),
    ],
)
def test_hidden_imports_are_flagged(path: str, text: str) -> None:
    assert hidden_imports(build({path: text}), {"plotly": "plots"})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("reports/a.py", "def f():\n    import plotly.express"),
        ("cells/a.py", "try:\n    import torch\nexcept ImportError:\n    torch = None"),
        ("commands/main.py", "import importlib\ndef f(n):\n    importlib.import_module(TABLE[n])"),
    ],
)
def test_open_imports_pass(path: str, text: str) -> None:
    assert_clean(hidden_imports(build({path: text}), {"plotly": "plots"}))


def test_undeclared_imports_are_flagged() -> None:
    def check(text: str) -> list[str]:
        return undeclared(build({"cells/a.py": text}), {"torch", "hydra-core"}, {"plotly"})

    assert check("import sklearn.svm")
    assert check("import plotly")
    assert not check("import torch.nn, hydra, json\nfrom gradgene import cells")
    assert not check("def f():\n    import plotly")


@pytest.mark.parametrize(
    "text",
    [
        "from gradgene.cells import Cells\n__version__ = '1'",
        "import os",
        "NAME = 'gradgene'",
        "name: str = 'gradgene'",
        "def f(): ...",
    ],
)
def test_a_crowded_root_is_flagged(text: str) -> None:
    assert crowded_root(build({"__init__.py": text}).modules[ROOT])
