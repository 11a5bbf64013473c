"""What a run shows: bars in a terminal, and a few plain lines in a file."""

from __future__ import annotations

import os
import pty
import re
import select

import pytest

from gradgene.commands.main import main
from tests.forked import Forked
from tests.integration.tiny import QUICK, words

#: Codes of colours; bold and the cursor's ways are others.
COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-79]|4[0-79]|9[0-7]|38|48)[0-9;]*m")


def test_a_file_gets_plain_lines(cells_file, tmp_path, capfd, no_figures):
    assert main(["study", *words(cells_file, tmp_path / "run", *QUICK)]) == 0
    said = capfd.readouterr()
    assert said.err == ""
    for debris in ("\x1b", "\r", "━━ ", "Epoch", "Predicting", "100%", "it/s", "Warning"):
        assert debris not in said.out
    stages = re.split(r"^─+ (\w+) ─+$", said.out.partition("top genes")[0], flags=re.MULTILINE)
    assert stages[1::2] == ["train", "attribute", "prune", "evaluate"]
    assert all(len(lines.strip().splitlines()) <= 8 for lines in stages[2::2]), said.out


@pytest.mark.slow
@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_bars_and_no_colours_where_none_are_wanted(cells_file, tmp_path, no_color):
    ours, theirs = pty.openpty()
    line = words(cells_file, tmp_path / "run", *QUICK)
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    wanted = {"TERM": "xterm-256color", "COLUMNS": "120"} | ({"NO_COLOR": "1"} if no_color else {})
    process = Forked(
        *("-m", "gradgene", "train", *line),
        environment=environment | wanted,
        terminal=os.ttyname(theirs),
    )
    said = b""
    while process.code is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            said += os.read(ours, 65536)
    os.close(theirs)
    os.close(ours)
    assert process.code == 0, said
    assert b"Epoch 1/1" in said and "━".encode() in said and b"held-out cells" in said
    assert bool(COLOUR.search(said)) != no_color
