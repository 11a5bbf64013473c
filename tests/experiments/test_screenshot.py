"""The picture of a report for the README: its size, and what is refused before a browser starts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from experiments.screenshot import LARGEST, find_chromium, main

PAGE = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><body>
<p style="height: 2000px">top</p><section id="genes"><h2>Genes</h2></section>
<p style="height: 2000px">bottom</p>"""


@pytest.fixture
def run(tmp_path: Path) -> str:
    (tmp_path / "report.html").write_text(PAGE)
    return str(tmp_path)


@pytest.mark.browser
def test_the_picture_is_one_screen_and_always_the_same(run: str, tmp_path: Path) -> None:
    if find_chromium() is None:
        pytest.skip("no Chromium: apt-get install chromium")
    pictures = []
    for i, more in enumerate(([], [], ["at=genes"], ["theme=dark"])):
        out = tmp_path / f"{i}.png"
        assert main([run, f"out={out}", *more]) == 0
        pictures.append(out.read_bytes())
    assert len(pictures[0]) < LARGEST
    # Width and height are the first words of a PNG's first chunk.
    assert {struct.unpack(">II", picture[16:24]) for picture in pictures} == {(1200, 900)}
    assert pictures[0] == pictures[1]
    assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Take the README's picture"),
        (["RUN"], "Take the README's picture"),
        (["RUN", "out=x.png", "size=9"], "Take the README's picture"),
        (["RUN", "out=x.png", "theme=blue"], "no such theme"),
        (["nowhere", "out=x.png"], "no such report"),
    ],
)
def test_what_is_refused(
    run: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([run if word == "RUN" else word for word in words]) == 2
    assert message in capsys.readouterr().err


def test_the_browser_is_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GRADGENE_CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None
    assert main([run, f"out={tmp_path / 'x.png'}"]) == 2
    assert "apt-get install chromium" in capsys.readouterr().err
    program = tmp_path / "chromium"
    program.write_text("")
    program.chmod(0o755)
    assert find_chromium() == str(program)
    monkeypatch.setenv("GRADGENE_CHROMIUM", str(tmp_path / "other"))
    assert main([run, f"out={tmp_path / 'x.png'}"]) == 2
    assert "GRADGENE_CHROMIUM" in capsys.readouterr().err
