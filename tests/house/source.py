"""The source tree as syntax: what every house rule reads, from disk or from strings.

A rule is a function from a `House` to a list of complaints, so that the same function is run on
`src/gradgene` and on small sources that break it on purpose.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from textwrap import dedent

ROOT = "gradgene"
REPOSITORY = Path(__file__).resolve().parents[2]
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Node types that rules ask for; keeping the others would only cost time.
_KEPT = (
    ast.Import,
    ast.ImportFrom,
    ast.Call,
    ast.ExceptHandler,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
)


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is a dotted name, empty where only run time knows it."""

    target: str
    line: int
    in_function: bool
    dynamic: bool = False

    @property
    def top(self) -> str:
        """The package the name comes from."""
        return self.target.partition(".")[0]

    @property
    def own(self) -> bool:
        """Whether it comes from this project."""
        return self.top == ROOT


@dataclass(frozen=True)
class Module:
    """One file: `name` is dotted, `path` is relative to `src/gradgene`."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def is_door(self) -> bool:
        """Whether this is a package's `__init__.py`."""
        return self.path.endswith("__init__.py")

    @property
    def package(self) -> str:
        """The dotted package that relative imports start from."""
        return self.name if self.is_door else self.name.rpartition(".")[0]

    @property
    def room(self) -> str:
        """The name directly under the root: `cells` for gradgene.cells.schema, "" for the root."""
        return room_of(self.name)

    def at(self, line: int) -> str:
        """Where a complaint points."""
        return f"{self.path}:{line}"

    @cached_property
    def nodes(self) -> Mapping[type[ast.AST], list[tuple[ast.AST, bool]]]:
        """Kept nodes by type, each with whether it lies inside a function."""
        found: dict[type[ast.AST], list[tuple[ast.AST, bool]]] = defaultdict(list)
        todo: list[tuple[ast.AST, bool]] = [(self.tree, False)]
        while todo:
            node, inside = todo.pop()
            if isinstance(node, _KEPT):
                found[type(node)].append((node, inside))
            inside = inside or isinstance(node, Function | ast.Lambda)
            todo += [(child, inside) for child in ast.iter_child_nodes(node)]
        return found

    @property
    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        for kind in (ast.FunctionDef, ast.AsyncFunctionDef):
            for node, _ in self.nodes.get(kind, ()):
                assert isinstance(node, Function)
                yield node

    @property
    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call with the dotted name of what is called, import aliases undone."""
        for node, _ in self.nodes.get(ast.Call, ()):
            assert isinstance(node, ast.Call)
            yield self.dotted(node.func), node

    @cached_property
    def _aliases(self) -> dict[str, str]:
        """Local name → dotted name, for everything imported anywhere in the file."""
        names: dict[str, str] = {}
        for kind in (ast.Import, ast.ImportFrom):
            for node, _ in self.nodes.get(kind, ()):
                if isinstance(node, ast.Import):
                    names |= {a.asname: a.name for a in node.names if a.asname}
                elif isinstance(node, ast.ImportFrom):
                    base = self._base(node)
                    names |= {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
        return names

    def dotted(self, node: ast.AST) -> str:
        """The dotted name of `np.load` or `pickle.load`, "" where it is no plain name."""
        tail: list[str] = []
        while isinstance(node, ast.Attribute):
            tail.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self._aliases.get(node.id, node.id), *reversed(tail)])

    def _base(self, node: ast.ImportFrom) -> str:
        """The absolute module of a from-import."""
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)

    @cached_property
    def imports(self) -> list[Import]:
        """Everything imported, by statement (also under TYPE_CHECKING) or by importlib."""
        found: list[Import] = []
        for node, inside in self.nodes.get(ast.Import, ()):
            assert isinstance(node, ast.Import)
            found += [Import(a.name, node.lineno, inside) for a in node.names]
        for node, inside in self.nodes.get(ast.ImportFrom, ()):
            assert isinstance(node, ast.ImportFrom)
            base = self._base(node)
            found += [Import(f"{base}.{a.name}", node.lineno, inside) for a in node.names]
        for node, inside in self.nodes.get(ast.Call, ()):
            assert isinstance(node, ast.Call)
            if self.dotted(node.func) in ("importlib.import_module", "__import__"):
                target = self._literal(node)
                found.append(Import(target, node.lineno, inside, dynamic=True))
        return found

    def _literal(self, call: ast.Call) -> str:
        """The module an importlib call names, "" where it is computed."""
        first = call.args[0] if call.args else None
        if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
            return ""
        name = first.value
        return f"{self.package}.{name.lstrip('.')}" if name.startswith(".") else name


@dataclass(frozen=True)
class House:
    """All modules by dotted name."""

    modules: Mapping[str, Module]

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())

    def resolve(self, target: str) -> Module | None:
        """The module that an imported dotted name lives in, the root excepted."""
        while "." in target:
            if target in self.modules:
                return self.modules[target]
            target = target.rpartition(".")[0]
        return None


def room_of(dotted: str) -> str:
    """The name directly under the root, "" for the root itself and for `__version__`."""
    room = dotted.removeprefix(ROOT).removeprefix(".").partition(".")[0]
    return "" if room == "__version__" else room


def build(sources: Mapping[str, str]) -> House:
    """A house from path → text, paths relative to `src/gradgene`."""
    modules = {}
    for path, text in sources.items():
        parts = [ROOT, *Path(path).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = dedent(text)
        modules[name] = Module(name, path, text, ast.parse(text, filename=path))
    return House(modules)


@cache
def house() -> House:
    """The house on disk, read once for all rules."""
    top = REPOSITORY / "src" / ROOT
    paths = sorted(top.rglob("*.py"))
    return build({p.relative_to(top).as_posix(): p.read_text(encoding="utf-8") for p in paths})


def assert_clean(complaints: list[str]) -> None:
    """Fail with one complaint a line."""
    if complaints:
        raise AssertionError("\n".join(["", *complaints]))
