"""What a console says where there is no terminal."""

from __future__ import annotations

import io

import pytest

from gradgene.commands.line.console import Console


def test_no_spinner_in_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich's own would warn there that ipywidgets is missing."""
    for console in (Console(force_jupyter=True), Console(force_terminal=False)):
        with console.status("reading") as status:
            status.update("still reading")
            assert not status.console.is_jupyter and not status.console.is_terminal
    assert capsys.readouterr() == ("", "")
    out = io.StringIO()
    with Console(file=out, force_terminal=True, force_jupyter=False).status("reading"):
        pass
    assert "reading" in out.getvalue()
