"""The pruning curves, the single pairs and the buttons of the report, in Chromium."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gradgene.reports import RunFiles
from tests.browser.conftest import Visit
from tests.reports.synthetic import RATIOS

pytestmark = pytest.mark.browser

MAIN = "deeplift/forward"


def chart(page: Page, order: str = "lowest_first") -> str:
    """The selector of a chart that has been drawn."""
    at = f'[data-chart="{order}"]'
    expect(page.locator(f"{at} svg[role=group]")).to_be_visible()
    return at


def curves(page: Page, order: str = "lowest_first") -> list[str]:
    """The rankings whose curves a chart shows."""
    found = page.locator(f"{chart(page, order)} [data-curve]").all()
    return [str(one.get_attribute("data-curve")) for one in found]


def test_pointing_at_a_curve_gives_its_value(visit: Visit, report: Path, run: RunFiles) -> None:
    page = visit(report)
    assert run.curves is not None
    for order, ratios in RATIOS.items():
        at = chart(page, order)
        points = page.locator(f'{at} [data-curve="{MAIN}"] [data-point]')
        assert points.count() == len(ratios)
        of = run.curves[(run.curves["ranking"] == MAIN) & (run.curves["order"] == order)]
        tip = page.locator(f"{at} .tip")
        assert not tip.is_visible()
        # The last point of the main curve: no other curve is drawn over it.
        points.last.scroll_into_view_if_needed()
        box = points.last.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        value, share = of["value"].iloc[-1], ratios[-1]
        expect(tip).to_contain_text(f"{MAIN}: {value:.3g}")
        expect(tip).to_contain_text(f"{100 * share:.3g} % of the genes removed")
        expect(tip).to_contain_text("95 % interval over donors")
        page.mouse.move(5, 5)
        expect(tip).not_to_be_visible()


def test_points_are_walked_by_keyboard(visit: Visit, report: Path) -> None:
    page = visit(report)
    at = chart(page)
    focused = "document.activeElement.getAttribute('aria-label')"
    page.locator(f'{at} [data-point][tabindex="0"]').focus()
    first = page.evaluate(focused)
    expect(page.locator(f"{at} .tip")).to_be_visible()
    page.keyboard.press("ArrowRight")
    second = page.evaluate(focused)
    name = first.partition(": ")[0]
    assert second.startswith(f"{name}: ") and second != first
    page.keyboard.press("End")
    assert "98 % of the genes removed" in page.evaluate(focused)
    page.keyboard.press("ArrowDown")
    other = page.evaluate(focused)
    assert not other.startswith(f"{name}: ") and "98 % of the genes" in other
    page.keyboard.press("Escape")
    expect(page.locator(f"{at} .tip")).not_to_be_visible()
    # One stop of the tab key a chart, and not one a point.
    assert page.locator(f'{at} [data-point][tabindex="0"]').count() == 1


def test_curves_go_and_come_in_both_charts(visit: Visit, report: Path) -> None:
    page = visit(report)
    before = curves(page)
    assert MAIN in before and "random" in before
    button = page.locator(f'{chart(page)} [data-toggle="{MAIN}"]')
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    for order in RATIOS:
        assert MAIN not in curves(page, order)
    assert set(curves(page)) == set(before) - {MAIN}
    button.focus()
    page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true" and set(curves(page)) == set(before)


def test_charts_stand_in_for_the_pictures(visit: Visit, report: Path) -> None:
    page = visit(report)
    chart(page)
    picture = page.locator('[data-chart="lowest_first"] > figure')
    assert not picture.is_visible()
    plain = visit(report, java_script_enabled=False)
    assert plain.locator('[data-chart="lowest_first"] > figure').is_visible()
    assert not plain.locator('[data-chart="lowest_first"] .live').is_visible()


def test_pairs_are_chosen(visit: Visit, report: Path) -> None:
    page = visit(report)
    views = json.loads(page.locator("#pair-data").text_content() or "")
    assert len(views) > 1
    choice = page.locator("#pair-select")
    rows = page.locator("#pair-table tbody tr")
    drawn = page.locator("#pair-table").inner_html()
    for at, view in enumerate(views):
        choice.select_option(str(at))
        assert rows.count() == len(view["steps"])
        assert rows.locator("th").all_inner_texts() == [step["label"] for step in view["steps"]]
        assert page.locator("#pair-facts dd").all_inner_texts() == [v for _, v in view["facts"]]
    assert page.locator("#pair-table").inner_html() != drawn


def test_bars_of_a_pair_lead_from_one_output_to_the_other(visit: Visit, report: Path) -> None:
    page = visit(report)
    boxes = [bar.bounding_box() for bar in page.locator("#pair-table .steps i:not(.end)").all()]
    assert len(boxes) > 2
    for a, b in pairwise(boxes):
        assert a is not None and b is not None
        # Each begins where the one before ended, at either end of it.
        ends, starts = ((x["x"], x["x"] + x["width"]) for x in (a, b))
        assert min(abs(end - start) for end in ends for start in starts) <= 1.5


def test_text_is_copied(visit: Visit, report: Path) -> None:
    page = visit(report, permissions=["clipboard-read", "clipboard-write"])
    buttons = page.locator("[data-copy]")
    assert buttons.count() >= 2
    for button in buttons.all():
        source = page.locator(button.get_attribute("data-copy") or "")
        button.click()
        said = button.locator("xpath=following-sibling::*[@role='status']")
        expect(said).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.split() == source.inner_text().split() and copied.strip()
