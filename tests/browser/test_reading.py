"""The report as somebody reads it: in the light and the dark, on paper, on a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.reading import PAPER, all_texts, clipped, faint_texts, sideways

pytestmark = pytest.mark.browser

NARROW = {"width": 400, "height": 800}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(visit: Visit, report: Path, scheme: str) -> None:
    page = visit(report, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.locator("[data-toggle]").first.click()  # what is switched off is to be read as well
    texts = all_texts(page)
    assert {"P", "TD", "TH", "A", "LI", "SUMMARY", "STRONG", "BUTTON"} <= {t["tag"] for t in texts}
    assert len(texts) > 500
    assert faint_texts(page) == []


def test_the_dark_is_dark(visit: Visit, report: Path) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light = visit(report, color_scheme="light").evaluate(back)
    dark = visit(report, color_scheme="dark").evaluate(back)
    assert light == "rgb(255, 255, 255)"
    assert max(int(v) for v in dark.removeprefix("rgb(").removesuffix(")").split(",")) < 60


def test_faint_text_is_noticed(visit: Visit, report: Path) -> None:
    page = visit(report)
    page.evaluate("document.querySelector('h1').style.color = 'rgb(0 0 0 / 30%)'")
    assert [text["tag"] for text in faint_texts(page)] == ["H1"]


def test_on_paper_there_is_what_one_reads_and_nothing_else(visit: Visit, report: Path) -> None:
    page = visit(report, viewport=PAPER, color_scheme="dark")
    page.emulate_media(media="print")
    for gone in ("nav", ".controls", "input", ".controls button"):
        for one in page.locator(gone).all():
            assert not one.is_visible(), gone
    for shown in ("h1", "#verdict", "#gene-table", "#pruning img", "#remake .command"):
        assert page.locator(shown).first.is_visible(), shown
    # Ink on white, whatever the reader's screen is like.
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert faint_texts(page) == []
    # Twenty thousand rows would be four hundred sheets.
    rows = page.locator("#gene-table tbody tr")
    assert sum(row.is_visible() for row in rows.all()) <= 50
    # What is folded away on the screen is open here, but for what nobody would read on paper.
    closed = page.locator("main details:not(.bulk)").all()
    assert closed
    for one in closed:
        assert one.locator("> :nth-child(2)").is_visible(), one.inner_text()


def test_nothing_is_cut_off_on_paper(visit: Visit, report: Path) -> None:
    page = visit(report, viewport=PAPER)
    page.emulate_media(media="print")
    assert clipped(page) == []
    assert sideways(page) <= 0
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000


def test_on_a_telephone_the_page_does_not_slide_sideways(visit: Visit, report: Path) -> None:
    page = visit(report, viewport=NARROW, device_scale_factor=2, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert sideways(page) <= 0
    # Wide tables slide by themselves.
    table = page.locator("#gene-table")
    assert table.evaluate("t => t.parentElement.scrollWidth > t.parentElement.clientWidth")
    pictures = page.locator("main img:visible").all()
    assert len(pictures) >= 6
    for picture in pictures:
        box = picture.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"]
    page.get_by_role("searchbox").fill("ISG15")
    assert page.locator("#gene-count").inner_text() == "1–1 of 1"


def test_without_scripts_it_can_be_read(visit: Visit, report: Path) -> None:
    page = visit(report, java_script_enabled=False)
    assert page.locator("#gene-table tbody tr").count() == 100
    assert page.get_by_role("cell", name="ISG15", exact=True).first.is_visible()
    assert not page.locator("#gene-controls").is_visible()
    pictures = page.locator("main figure img")
    assert pictures.count() >= 8
    for picture in pictures.all():
        box = picture.bounding_box()
        assert box is not None and box["width"] > 100 and box["height"] > 100
        assert picture.get_attribute("alt")


def test_every_link_leads_somewhere(visit: Visit, report: Path) -> None:
    page = visit(report)
    lost = page.evaluate(
        """() => Array.from(document.querySelectorAll('a[href^="#"]'))
          .map((a) => a.getAttribute('href'))
          .filter((at) => document.getElementById(decodeURIComponent(at.slice(1))) === null)"""
    )
    assert page.locator("nav a").count() >= 6 and lost == []
    page.get_by_role("link", name="Pruning", exact=True).first.click()
    expect(page.locator("#pruning h2")).to_be_in_viewport()
    # The heading is not under the bar that stays on top.
    nav, heading = page.locator("nav").bounding_box(), page.locator("#pruning h2").bounding_box()
    assert nav is not None and heading is not None
    assert heading["y"] >= nav["y"] + nav["height"] - 1


def test_identifiers_are_unique(visit: Visit, report: Path) -> None:
    names = visit(report).evaluate("Array.from(document.querySelectorAll('[id]')).map((e) => e.id)")
    assert names and len(names) == len(set(names))
