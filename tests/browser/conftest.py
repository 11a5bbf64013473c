"""A browser for each file of tests, pages that may neither complain nor ask for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

from experiments.screenshot import find_chromium, open_browser
from gradgene.reports import RunFiles, write_report
from tests.reports.synthetic import gene_table, write_run

Visit = Callable[..., Page]

#: Names that would do something if a page took them for anything but text.
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "<!--<script>")


# Not for the whole session: while Playwright runs, its thread has an event loop that tests of
# other packages in the same process would stumble over.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; skips the test where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with open_browser(program) as opened:
        yield opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a file in a new page: `visit(file, color_scheme="dark", …)`.

    When the test is over, it fails if any page has written a warning or an error to the console,
    raised, opened a dialogue, or asked for anything but its own file and data within it.
    """
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    # Without a listener Playwright would wave a dialogue away, and nobody would know.
    def refuse(dialog: Dialog) -> None:
        complaints.append(f"dialogue: {dialog.message}")
        dialog.dismiss()

    def watch(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            complaints.append(f"request: {request.url}")

    def open_page(file: Path, **settings: Any) -> Page:
        wanted: dict[str, Any] = {
            "viewport": {"width": 1200, "height": 900},
            "reduced_motion": "reduce",
        }
        context = browser.new_context(**{**wanted, **settings})
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.on("dialog", refuse)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda said: complaints.append(f"console: {said.type}: {said.text}"))
        page.on("request", watch)
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    """A finished run of made-up numbers."""
    return RunFiles.read(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="session")
def report(run: RunFiles) -> Path:
    """The report of `run` with all its figures."""
    return write_report(run)


@pytest.fixture(scope="session")
def bare_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report without figures whose second, third and fourth gene have hostile names."""
    genes = gene_table(flags=True)
    for rank, name in enumerate(HOSTILE, start=2):
        genes.loc[genes["rank"] == rank, "gene"] = name
    folder = write_run(tmp_path_factory.mktemp("hostile"), {"attributions/genes.parquet": genes})
    return write_report(RunFiles.read(folder), {})
