"""One line, five facts."""

from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene import errors
from gradgene.errors import (
    CellsError,
    ConfigError,
    GradgeneError,
    LabelError,
    closest,
    closest_first,
    require_extra,
)

FAMILY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GradgeneError)
]


def test_message_names_every_fact_in_order() -> None:
    error = GradgeneError("is wrong", where="data.x", expected="a", found="b", fix="do c")
    assert str(error) == "data.x: is wrong; expected a; found b; to fix: do c"


def test_facts_that_are_not_given_leave_no_trace() -> None:
    assert str(GradgeneError("is wrong")) == "is wrong"
    assert str(GradgeneError("is wrong", fix="do c")) == "is wrong; to fix: do c"


@given(*[st.none() | st.text()] * 4)
def test_message_is_one_line(
    where: str | None, expected: str | None, found: str | None, fix: str | None
) -> None:
    error = GradgeneError("a\nb", where=where, expected=expected, found=found, fix=fix)
    assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("kind", FAMILY)
def test_errors_survive_a_worker_process(kind: type[GradgeneError]) -> None:
    error = kind("is wrong", where="data.x", fix="do c")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


def test_family() -> None:
    assert len(FAMILY) >= 9
    assert issubclass(LabelError, CellsError)
    assert set(errors.__all__) >= {kind.__name__ for kind in FAMILY}


@given(st.text(), st.lists(st.text(), unique=True))
def test_closest_first_is_a_permutation(name: str, valid: list[str]) -> None:
    assert sorted(closest_first(name, valid)) == sorted(valid)


def test_closest_puts_the_likeliest_first() -> None:
    valid = ["sex", "qqq", "disease_state", "disease"]
    assert closest_first("diseas", valid)[0] == "disease"
    assert closest("diseas", valid) == "'disease', 'disease_state', 'sex', 'qqq'"


def test_closest_counts_what_it_leaves_out() -> None:
    assert closest("q", [f"label{i}" for i in range(11)]).endswith(" and 3 more")
    assert "more" not in closest("q", [f"label{i}" for i in range(8)])
    assert closest("q", []) == "(none)"


def test_what_an_extra_would_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_extra("any", "json", "re", where="there")
    monkeypatch.setitem(sys.modules, "not_there", None)
    with pytest.raises(ConfigError) as caught:
        require_extra("any", "not_there", "json", "nor_this", where="there", otherwise="wait")
    assert str(caught.value) == (
        "there: needs not-there and nor-this, which is not installed; "
        "to fix: pip install 'gradgene[any]', or wait"
    )
