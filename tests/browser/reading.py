"""What a reader would notice about a page: faint text, text that is cut off."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

#: WCAG 2.1, level AA, for text of any size.
CONTRAST = 4.5
#: A sheet of A4 between margins of a centimetre, in CSS pixels.
PAPER = {"width": 718, "height": 1045}

#: Every piece of text that can be seen: its words, and its contrast with what lies behind it.
_TEXTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    if (element === null) return rgba('Canvas').slice(0, 3);
    return over(rgba(getComputedStyle(element).backgroundColor), behind(element.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    const hidden = !element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (words === '' || hidden || element.closest('script, style, noscript, :disabled')) continue;
    const style = getComputedStyle(element), back = behind(element);
    const colour = rgba(element instanceof SVGElement ? style.fill : style.color);
    for (let e = element; e !== null; e = e.parentElement) colour[3] *= getComputedStyle(e).opacity;
    const [a, b] = [light(over(colour, back)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push({words: words.slice(0, 40), tag: element.tagName, ratio});
  }
  return found;
}"""

#: Boxes whose content does not fit in them, but for those that are only read out.
_CLIPPED = """() => Array.from(document.querySelectorAll('main *'))
  .filter((e) => e.checkVisibility() && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1
    && !e.classList.contains('unseen'))
  .map((e) => `${e.tagName}#${e.id}.${e.className}: ${e.scrollWidth} in ${e.clientWidth}`)"""

_SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def all_texts(page: Page) -> list[dict[str, Any]]:
    """What can be read on a page: `words`, `tag`, and the `ratio` of contrast."""
    found: list[dict[str, Any]] = page.evaluate(_TEXTS)
    return found


def faint_texts(page: Page) -> list[dict[str, Any]]:
    """Texts that are too like what lies behind them."""
    return [text for text in all_texts(page) if text["ratio"] < CONTRAST]


def clipped(page: Page) -> list[str]:
    """Elements that are narrower than what is in them."""
    found: list[str] = page.evaluate(_CLIPPED)
    return found


def sideways(page: Page) -> int:
    """How far the page as a whole can be slid sideways."""
    return int(page.evaluate(_SIDEWAYS))
