"""Progress of work without Lightning."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as Rich

from gradgene.commands.run.progress import with_bar
from gradgene.lit import Minutes


@pytest.mark.parametrize("terminal", [True, False])
def test_pieces_come_as_they_are_and_a_bar_in_a_terminal_only(terminal: bool) -> None:
    out = io.StringIO()
    console = Rich(file=out, force_terminal=terminal, width=80)
    assert [*with_bar(console, "pruning", "abc")] == ["a", "b", "c"]
    assert ("pruning" in out.getvalue() and "100%" in out.getvalue()) == terminal
    assert bool(out.getvalue()) == terminal


def test_a_line_a_minute_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    out, passed = io.StringIO(), iter([False, True, False])
    monkeypatch.setattr(Minutes, "passed", lambda self: next(passed))
    assert [*with_bar(Rich(file=out), "pruning", "abc")] == ["a", "b", "c"]
    assert out.getvalue() == "pruning: 2 of 3\n"
