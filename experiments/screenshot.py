"""Take the README's picture of a report.

python experiments/screenshot.py RUN out=FILE.png [at=SECTION] [theme=dark]
    The first screen of RUN/report.html (of a sweep, RUN/sweep.html) at 1200 × 900, or the one that
    begins at a section (`at=genes`). RUN is the folder of a run or of a sweep.

Playwright drives the browser that is installed (Debian's `chromium`); it downloads none. The tests
of the report in `tests/browser` open theirs with the same two functions.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, sync_playwright

from gradgene.errors import ConfigError, GradgeneError, OutputError
from gradgene.store import atomic_path

__all__ = ["find_chromium", "open_browser", "take"]

#: What distributions call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 900
THEMES: dict[str, Literal["light", "dark"]] = {"light": "light", "dark": "dark"}
#: A README's picture is to load at once.
LARGEST = 400_000


def find_chromium() -> str | None:
    """The browser's program: what GRADGENE_CHROMIUM names, else the first found on the path.

    None where there is none; a `ConfigError` where GRADGENE_CHROMIUM names no program.
    """
    named = os.environ.get("GRADGENE_CHROMIUM")
    if named:
        found = shutil.which(named)
        if found is None:
            raise ConfigError("no such program", where="GRADGENE_CHROMIUM", found=named)
        return found
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def open_browser(program: str) -> Iterator[Browser]:
    """A headless browser for as long as the context lasts."""
    # Root has no sandbox to be put in.
    sandboxed = os.geteuid() != 0
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, chromium_sandbox=sandboxed)
        try:
            yield browser
        finally:
            browser.close()


def take(report: Path, out: Path, at: str | None = None, theme: str = "light") -> None:
    """Write the picture of one screen of `report` to `out`, the same bytes for the same report.

    Parameters
    ----------
    report
        A `report.html`.
    out
        A PNG file.
    at
        Identifier of the section the screen begins with; None for the top of the page.
    theme
        `light` or `dark`.

    Raises
    ------
    ConfigError
        If there is no browser, no such section or no such theme.
    OutputError
        If there is no such report, or the picture is larger than 400 kB.
    """
    if theme not in THEMES:
        raise ConfigError("no such theme", where="theme", expected="light or dark", found=theme)
    if not report.is_file():
        raise OutputError("no such report", where=str(report), fix="gradgene report RUN makes it")
    program = find_chromium()
    if program is None:
        raise ConfigError("no Chromium", where="screenshot", fix="apt-get install chromium")
    with open_browser(program) as browser:
        page = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=1,
            color_scheme=THEMES[theme],
            reduced_motion="reduce",
        )
        page.goto(report.resolve().as_uri())
        if at is not None:
            section = page.locator(f'[id="{at}"]')
            if section.count() != 1:
                raise ConfigError("no such section", where="at", found=at)
            # Smooth scrolling would be on its way while the picture is taken.
            section.evaluate("e => e.scrollIntoView({behavior: 'instant'})")
        picture = page.screenshot(animations="disabled")
    if len(picture) > LARGEST:
        raise OutputError(
            "the picture is too large",
            where=str(out),
            expected=f"at most {LARGEST:,} bytes",
            found=f"{len(picture):,}",
            fix="begin at another section with at=SECTION",
        )
    with atomic_path(out) as temporary:
        temporary.write_bytes(picture)


def page_of(folder: Path) -> Path:
    """The page of a sweep or of a run."""
    return next((f for f in [folder / "sweep.html"] if f.is_file()), folder / "report.html")


def main(words: list[str]) -> int:
    """Read the command line and take the picture; 2 where the user is wrong."""
    settings = dict(word.partition("=")[::2] for word in words if "=" in word)
    runs = [word for word in words if "=" not in word]
    if len(runs) != 1 or "out" not in settings or not set(settings) <= {"out", "at", "theme"}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        take(
            page_of(Path(runs[0])),
            Path(settings["out"]),
            settings.get("at"),
            settings.get("theme", "light"),
        )
    except GradgeneError as error:
        print(f"screenshot: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
