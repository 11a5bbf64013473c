"""Pickles are read as data: hostile ones are refused by name and nothing in them runs."""

from __future__ import annotations

import builtins
import copyreg
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.checkpoints import pickles
from gradgene.checkpoints.pickles import read_pickle
from gradgene.errors import CheckpointError
from tests.checkpoints.peers import pickled_tokenizer

TOKENIZER = "polygene.data_utils.tokenization GeneTokenizer"
PROTO, STOP = b"\x80\x04", b"."


def text(value: str) -> bytes:
    """The opcode that pushes a short text."""
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(name: str) -> bytes:
    """The opcodes that push the class "module name"."""
    module, last = name.split(" ")
    return text(module) + text(last) + b"\x93"


def instance(state: bytes, name: str = TOKENIZER) -> bytes:
    """An instance of a class, built from the state that `state` pushes."""
    return PROTO + named(name) + b")\x81" + state + b"b" + STOP


def written(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "tokenizer.pkl"
    file.write_bytes(data)
    return file


class Call:
    """Pickles as the call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def marker(tmp_path: Path) -> Path:
    return tmp_path / "was run"


def payloads(mark: Path) -> dict[str, tuple[object, str]]:
    """What to put into the state of a tokenizer, and what the refusal must name."""
    touch = f"open({str(mark)!r}, 'w').close()"
    return {
        "shell": (Call(os.system, f"touch '{mark}'"), "posix.system"),
        "eval": (Call(eval, touch), "builtins.eval"),
        "exec": (Call(exec, touch), "builtins.exec"),
        "getattr": (Call(getattr, "x", "upper"), "builtins.getattr"),
        "open": (Call(open, str(mark), "w"), "io.open"),
        "nested": ({"a": [("b", {"c": Call(eval, touch)})]}, "builtins.eval"),
        "twice": (Call(map, Call(eval, touch), []), "builtins.map"),
        "copyreg": (Call(copyreg._reconstructor, object, object, None), "copyreg._reconstructor"),  # type: ignore[attr-defined]
        "path": (Path("/"), "pathlib.PosixPath"),
        "function": (builtins.print, "builtins.print"),
    }


@pytest.mark.parametrize("name", payloads(Path("x")))
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_hostile_state_is_refused_and_not_run(name: str, protocol: int, tmp_path: Path) -> None:
    payload, refused = payloads(marker(tmp_path))[name]
    data = pickled_tokenizer("polygene", {"config": payload}, protocol=protocol)
    with pytest.raises(CheckpointError, match="is refused, and nothing of it was run") as error:
        read_pickle(written(tmp_path, data))
    module, _, last = refused.rpartition(".")
    found = str(error.value)
    assert last in found
    assert module in found or protocol < 3  # __builtin__ of Python 2
    assert not marker(tmp_path).exists()


def test_the_payloads_are_real(tmp_path: Path) -> None:
    """Free unpickling does run them: the tests above can fail."""
    for name in ("shell", "eval", "exec", "nested"):
        payload, _ = payloads(marker(tmp_path))[name]
        pickle.loads(pickle.dumps(payload))
        assert marker(tmp_path).exists()
        marker(tmp_path).unlink()


@pytest.mark.parametrize(
    "name",
    [
        "evil.tokenization GeneTokenizer",
        "evil.polygene.data_utils.tokenization GeneTokenizer",
        "polygene.data_utils.tokenization.evil GeneTokenizer",
        "polygene.data_utils.tokenization GeneTokenizer.__init__.__globals__",
        "polygene.data_utils.tokenization os.system",
        "polygene.data_utils.tokenization Gene_Tokenizer",
        "tokenization GeneTokenizer",
        "polygene.evil.configs TrainConfig",
        "polygene.configs TrainConfig.__class__",
        "polygene.configs os",
        "polygeneXconfigs TrainConfig",
        "gradgene.checkpoints.pickles read_pickle",
        "builtins object",
        "collections OrderedDict",
    ],
)
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is refused") as error:
        read_pickle(written(tmp_path, instance(b"}", name)))
    assert name.replace(" ", ".") in str(error.value)


@pytest.mark.parametrize("root", ["perturbgene.", "cellular_aging_map.", "polygene.", ""])
def test_the_published_names_are_known(root: str, tmp_path: Path) -> None:
    config = named(f"{root}configs TrainConfig") + b")\x81}" + text("a") + b"K\x07sb"
    state = b"}" + text("config") + config + b"s"
    file = written(tmp_path, instance(state, f"{root}data_utils.tokenization GeneTokenizer"))
    found = read_pickle(file)
    assert found.name == f"{root}data_utils.tokenization.GeneTokenizer"
    assert found.attributes["config"].name == f"{root}configs.TrainConfig"
    assert found.attributes["config"].attributes == {"a": 7}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (instance(b"]"), "state is a list"),
        (instance(b"N"), "state is a NoneType"),
        (instance(b"N}\x86"), "state is a tuple"),  # (None, slots): a way to setattr
        (instance(b"}K\x01K\x02s"), "state is a dict"),  # a key that is no text
        (PROTO + b"}" + STOP, "no tokenizer but a dict"),
        (PROTO + named("polygene.configs AConfig") + b")\x81" + STOP, "AConfig"),
        (PROTO + named(TOKENIZER) + STOP, "_Class"),
        (PROTO + named(TOKENIZER) + b"K\x01\x85\x81" + STOP, "made in another way"),
        (PROTO + named(TOKENIZER) + b")}\x92" + STOP, "NEWOBJ_EX"),
        (PROTO + named(TOKENIZER) + b")R" + STOP, "opcode REDUCE"),
        (PROTO + named(TOKENIZER) + b"}b" + STOP, "items for a _Class"),
        (PROTO + b"}" + text("__class__") + b"Nsb" + STOP, ""),
        (PROTO + b"(" + text("os") + b"i" + b"os\nsystem\n" + STOP, "opcode INST"),
        (PROTO + b"(" + named(TOKENIZER) + b"o" + STOP, "opcode OBJ"),
        (PROTO + b"Pevil\n" + STOP, "opcode PERSID"),
        (PROTO + text("evil") + b"Q" + STOP, "opcode BINPERSID"),
        (PROTO + b"\x82\x01" + STOP, "opcode EXT1"),
        (PROTO + b"\x96" + struct.pack("<Q", 3) + b"abc" + STOP, "opcode BYTEARRAY8"),
        (PROTO + b"\x97" + STOP, "opcode NEXT_BUFFER"),
        (PROTO + b"N" + named(TOKENIZER) + b")\x81" + STOP, "1 objects more than one"),
        (PROTO + b"})\x86}" + b"N" + STOP, "more than one"),
        (instance(b"})" + b"Ns"), "a tuple as a key"),
    ],
)
def test_other_shapes_are_refused(data: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is refused|not a readable pickle") as error:
        read_pickle(written(tmp_path, data))
    assert found in str(error.value)


def test_an_attribute_named_class_is_only_a_word(tmp_path: Path) -> None:
    state = b"}" + text("__class__") + text("evil") + b"s" + text("__dict__") + b"Ns"
    found = read_pickle(written(tmp_path, instance(state)))
    assert type(found) is pickles.PickledObject
    assert found.attributes == {"__class__": "evil", "__dict__": None}


#: Sixty times a pair of the tuple before and itself.
NESTED = b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(60))


@pytest.mark.parametrize(
    "bomb",
    [
        PROTO + b"\x8d" + struct.pack("<Q", 1 << 60) + b"x" + STOP,  # a text of an exabyte
        PROTO + b"N" + b"r" + struct.pack("<I", 1 << 31) + STOP,  # a memo of two billion
        PROTO + b"\x96" + struct.pack("<Q", 1 << 60) + STOP,  # a bytearray of an exabyte
        PROTO + b"\x95" + struct.pack("<Q", 1 << 60) + STOP,  # a frame of an exabyte
        PROTO + b"I" + b"9" * 100_000 + b"\n" + STOP,  # a number of 100,000 digits
        PROTO + b"})" + NESTED + b"Ns" + STOP,  # a key whose hash takes 2^60 steps
    ],
)
def test_bombs_fizzle(bomb: bytes, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"refused|not a readable pickle"):
        read_pickle(written(tmp_path, bomb))


def test_a_large_file_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickled_tokenizer("polygene", {"config": ["x" * 100] * 3})
    file = written(tmp_path, data)
    read_pickle(file)
    monkeypatch.setattr(pickles, "MAX_BYTES", len(data) - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="MB, where a tokenizer takes"):
        read_pickle(file)


@given(data=st.data())
def test_a_cut_or_garbled_file_is_an_error_of_ours(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = pickled_tokenizer("polygene", {"config": {"a": [1, 2.5, None, True]}, "b": ("x",)})
    at = data.draw(st.integers(0, len(whole) - 1))
    garbled = bytearray(whole)
    garbled[at] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("garbled")
    with pytest.raises(CheckpointError):
        read_pickle(written(folder, whole[:at]))
    try:
        read_pickle(written(folder, bytes(garbled)))
    except CheckpointError as error:
        assert str(folder) in str(error)


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
plain = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@given(state=st.dictionaries(st.text(), plain), protocol=st.integers(2, 5))
def test_plain_data_comes_back(
    state: dict[str, object], protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = pickled_tokenizer("perturbgene", state, protocol=protocol)
    found = read_pickle(written(tmp_path_factory.mktemp("plain"), data))
    assert found.attributes == state


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable pickle"):
        read_pickle(tmp_path / "tokenizer.pkl")
