"""Read the published tokenizers' pickles as data: nothing a file names is imported or called."""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradgene.errors import CheckpointError

__all__ = ["PickledObject", "read_pickle"]

#: A tokenizer of 60,000 genes takes 2 MB; a byte can make an object of some 70.
MAX_BYTES = 8 << 20

#: The only classes that may be named, by their full name. They are not imported.
ROOT = r"(?:(?:perturbgene|cellular_aging_map|polygene)\.)?"
ALLOWED = re.compile(rf"{ROOT}(?:data_utils\.tokenization\.GeneTokenizer|configs\.\w*Config)")

#: Opcodes that push their argument.
VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BININT", "BININT1", "BININT2",
    "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
EMPTY: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
SCALARS = (str, int, float, bool, type(None))


@dataclass
class PickledObject:
    """An instance in a pickle: the full name of its class and its attributes, nothing more."""

    name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Class:
    """A class that a pickle names, by its full name."""

    name: str


class _RefusedError(Exception):
    """Something that such a file has no business to hold."""


def read_pickle(file: Path) -> PickledObject:
    """The tokenizer that a `tokenizer.pkl` of the published family holds.

    The file is interpreted here, opcode by opcode, into lists, dicts, texts and numbers; classes
    are known by their names only. There is no opcode that calls anything.

    Raises
    ------
    CheckpointError
        For a file that is damaged, too large, or holds anything but a tokenizer, its configuration
        and plain types; it names what was refused.
    """
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise _RefusedError(
                f"{size >> 20} MB, where a tokenizer takes at most {MAX_BYTES >> 20}"
            )
        found = _Reader().read(file.read_bytes())
        if not isinstance(found, PickledObject):
            raise _RefusedError(f"no tokenizer but a {type(found).__name__}")
        if not found.name.endswith(".GeneTokenizer"):
            raise _RefusedError(f"no tokenizer but {found.name}")
    except _RefusedError as refused:
        raise CheckpointError(
            "is refused, and nothing of it was run",
            where=str(file),
            expected="a GeneTokenizer, its configuration and plain types",
            found=str(refused),
            fix="use the tokenizer.pkl that the published code wrote",
        ) from refused
    # What cut-off and garbled files lead to; every operation is on plain lists and dicts.
    except (ValueError, LookupError, TypeError, OSError) as error:
        raise CheckpointError(
            "is not a readable pickle", where=str(file), found=f"{type(error).__name__}: {error}"
        ) from error
    return found


class _Reader:
    """A stack machine for the part of the pickle language that plain data needs."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """The object that `data` describes."""
        for opcode, argument, _ in pickletools.genops(data):
            self._do(opcode.name, argument)
        found = self.stack.pop()
        if self.stack:
            raise _RefusedError(f"{len(self.stack)} objects more than one")
        return found

    def _do(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES or name in ("EMPTY_TUPLE", "TUPLE", "LIST", "DICT"):
            self._gather(name)
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            self._fill(name)
        elif name in ("GLOBAL", "STACK_GLOBAL", "NEWOBJ", "BUILD"):
            self._object(name, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise _RefusedError(f"the opcode {name}")

    def _gather(self, name: str) -> None:
        """Make a tuple, list or dict of the items on the stack."""
        if name in TUPLES:
            items = [self.stack.pop() for _ in range(TUPLES[name])][::-1]
        else:
            items = [] if name == "EMPTY_TUPLE" else self._since_mark()
        if name == "DICT":
            self.stack.append({})
            self._set(items)
        else:
            self.stack.append(items if name == "LIST" else tuple(items))

    def _fill(self, name: str) -> None:
        """Put the items on the stack into the container below them."""
        if name in ("APPEND", "SETITEM"):
            n = 1 if name == "APPEND" else 2
            items = [self.stack.pop() for _ in range(n)][::-1]
        else:
            items = self._since_mark()
        if name.startswith("SETITEM"):
            self._set(items)
        elif name == "ADDITEMS":
            self._container(set).update(map(_scalar, items))
        else:
            self._container(list).extend(items)

    def _object(self, name: str, argument: Any) -> None:
        """Name a class, make an empty instance of it, or give it its attributes."""
        if name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                parts = [self.stack.pop() for _ in range(2)][::-1]
                argument = " ".join(parts)  # a TypeError, if they are not texts
            full_name = str(argument).replace(" ", ".")
            if not ALLOWED.fullmatch(full_name):
                raise _RefusedError(f"the name {full_name}")
            self.stack.append(_Class(full_name))
        elif name == "NEWOBJ":
            arguments, cls = self.stack.pop(), self.stack.pop()
            if not isinstance(cls, _Class) or arguments != ():
                raise _RefusedError("an object made in another way than from its attributes")
            self.stack.append(PickledObject(cls.name))
        else:
            state = self.stack.pop()
            if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
                raise _RefusedError(f"an object whose state is a {type(state).__name__}")
            self._container(PickledObject).attributes.update(state)

    def _since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _container(self, kind: type) -> Any:
        """What is on top of the stack, which must be of `kind`."""
        if type(self.stack[-1]) is not kind:
            raise _RefusedError(f"items for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _set(self, items: list[Any]) -> None:
        self._container(dict).update(zip(map(_scalar, items[::2]), items[1::2], strict=True))


def _scalar(key: Any) -> Any:
    """A key: nested tuples as keys can take forever to hash."""
    if not isinstance(key, SCALARS):
        raise _RefusedError(f"a {type(key).__name__} as a key")
    return key
