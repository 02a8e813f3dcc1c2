"""What a person sees and can do: plots, tables, themes, the phone, and that text from outside stays text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser.conftest import Opened
from PIL import Image

from dig.engine.console import visible
from dig.report import ReportData
from dig.report.formats import recommender_name

Look = Callable[..., Opened]

CONTRAST = """() => {
  const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const read = text => text.match(/[\\d.]+/g).map(Number);
  const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = read(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
  };
  const found = [];
  for (const element of document.body.querySelectorAll("*")) {
    const words = [...element.childNodes].filter(node => node.nodeType === 3 && node.textContent.trim());
    if (!words.length || !element.getClientRects().length || element.closest("script, style, noscript")) continue;
    const svg = element.closest("svg");
    const style = getComputedStyle(element);
    const [a, b] = [light(read(svg ? style.fill : style.color)), light(behind(svg ? svg.parentElement : element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, words[0].textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("width", [360, 1280])
def test_every_plot_is_drawn_without_a_complaint_or_a_request(opened: Look, width: int):
    look = opened(width)
    look.draw_all()
    marks = look.page.evaluate(
        "[...document.querySelectorAll('figure.plot')].filter(each => each.querySelector('.vega').clientWidth).map("
        "each => each.querySelectorAll('svg .role-mark path, svg .role-mark line, svg .role-mark rect').length)"
    )
    assert len(marks) > 25 and min(marks) >= 1
    assert look.complaints == []
    assert [url for url in look.requests if not url.startswith(("file:", "data:image/"))] == []
    assert len([url for url in look.requests if url.startswith("file:")]) == 1


def test_numbers_in_the_table_are_those_of_the_run(opened: Look, data: ReportData):
    rows = opened().page.evaluate(
        "[...document.querySelectorAll('#result table')[0].rows].map(row => [...row.cells].map("
        "cell => [...cell.childNodes].filter(node => node.className !== 'bounds').map(node => node.textContent)"
        ".join('')))"
    )
    assert rows[0] == ["Recommender", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "MRR@5", "MRR@10"]
    keys = [name.lower() for name in rows[0][1:]]
    expected = [
        [visible(recommender_name(name)), *(f"{values['test'][key]:.4f}" for key in keys)]
        for name, values in data.metrics.items()
    ]
    assert rows[1:] == expected


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(opened: Look, scheme: str):
    look = opened(scheme=scheme)
    look.draw_all()
    found = look.page.evaluate(CONTRAST)
    assert len(found) > 500
    assert [pair for pair in found if pair[0] < 4.5] == []


def background(look: Opened) -> str:
    return look.page.evaluate("getComputedStyle(document.body).backgroundColor")


def axis_colour(look: Opened) -> str:
    return look.page.evaluate("getComputedStyle(document.querySelector('figure.plot svg text')).fill")


def test_themes_differ_and_the_button_changes_them_with_the_plots(opened: Look):
    light, dark = opened(scheme="light"), opened(scheme="dark")
    for look in (light, dark):
        look.draw_all()
    assert background(light) != background(dark) and axis_colour(light) != axis_colour(dark)
    seen = (background(dark), axis_colour(dark))
    light.page.click("#theme")
    assert (background(light), axis_colour(light)) == seen
    light.page.click("#theme")
    assert background(light) != seen[0]


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways(opened: Look, width: int):
    look = opened(width)
    look.draw_all()
    for element in look.page.query_selector_all("details"):
        element.evaluate("each => { each.open = true; }")
    look.page.wait_for_timeout(200)
    assert look.page.evaluate("document.documentElement.scrollWidth") <= width


def test_wide_tables_scroll_in_their_own_box_and_keep_their_first_column(opened: Look):
    page = opened(360).page
    box = page.query_selector("#result .wide")
    assert box.evaluate("each => each.scrollWidth > each.clientWidth")
    box.evaluate("each => { each.scrollLeft = 200; }")
    offset = "each => each.querySelector('tbody th').getBoundingClientRect().left - each.getBoundingClientRect().left"
    assert abs(box.evaluate(offset)) < 1


def test_the_code_tree_opens_by_a_click_down_to_the_items(opened: Look):
    page = opened().page
    assert page.locator("#tree .leaf").count() == 0
    page.locator("#tree > details > summary").first.click()
    below = page.locator("#tree > details").first.locator(":scope > details, :scope > .leaf")
    below.first.wait_for()  # a browser tells of the click a moment later
    assert below.count() > 0
    page.locator("#tree > details").first.locator(":scope > details > summary").first.click()
    leaf = page.locator("#tree .leaf bdi").first
    leaf.wait_for()
    assert leaf.inner_text()


def test_text_from_outside_stays_text_and_does_not_run(opened: Look):
    look = opened()
    look.draw_all()
    for summary in look.page.query_selector_all("#tree > details > summary"):
        summary.click()
    assert look.page.evaluate("window.ran") is None
    assert look.page.locator("#tree", has_text="<script>window.ran = 1</script>").count() == 1
    assert look.page.locator("#examples", has_text="<img src=x onerror=").count() == 1
    assert look.page.locator("main script:not([type])").count() == 0
    assert look.page.locator("img[src='x']").count() == 0
    assert look.complaints == []


def test_a_tooltip_tells_what_is_pointed_at_as_text(opened: Look):
    look = opened()
    look.draw_all()
    bars = look.page.locator("#slices figure.plot").first.locator("svg .mark-rect.role-mark path")
    told = set()
    for place in range(bars.count()):
        bars.nth(place).hover()
        told.add(look.page.locator("#tip").inner_text())
    assert any("SASRec" in each and "NDCG@10" in each for each in told)
    assert any("<script>" in each for each in told)
    assert look.page.evaluate("window.ran") is None and look.complaints == []


def test_without_scripts_all_tables_and_texts_are_there(opened: Look, data: ReportData):
    page = opened(scripts=False).page
    text = page.locator("main").inner_text()
    assert "Scripts are off" in text and f"{data.metrics['grpo']['test']['ndcg@10']:.4f}" in text
    assert page.locator("#theme").is_hidden() and page.locator("#tree > details").count() > 3
    assert page.locator("article.card").count() > 5


def test_the_printer_gets_dark_words_on_white(opened: Look):
    look = opened(scheme="dark")
    look.draw_all()
    look.page.emulate_media(media="print")
    assert background(look) == "rgb(255, 255, 255)" and axis_colour(look) == "rgb(89, 97, 107)"
    assert look.page.locator("nav.bar").is_hidden()
    assert look.page.pdf()[:5] == b"%PDF-"


def test_the_bar_marks_the_part_that_is_read(opened: Look):
    page = opened(360).page
    page.locator(".links a", has_text="Slices").click()
    page.locator(".links a.here", has_text="Slices").wait_for()
    page.wait_for_timeout(500)
    assert 0 <= page.locator("#slices").bounding_box()["y"] < 400
    box = page.locator(".links a.here").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360


@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_of_the_page_at_two_widths_in_light_and_dark(opened: Look, tmp_path: Path, width: int):
    """Left in the folder ``DIG_SCREENSHOTS`` where it is set, to be looked at."""
    folder = Path(os.environ.get("DIG_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    levels = {}
    for scheme in ("light", "dark"):
        look = opened(width, scheme=scheme)
        look.draw_all()
        path = folder / f"report-{width}-{scheme}.png"
        look.page.screenshot(path=path, full_page=True)
        with Image.open(path) as picture:
            assert picture.width == width and picture.height > 5 * width
            pixels = np.asarray(picture.convert("L"))
        bands = np.array_split(pixels, 12)  # something is drawn from top to bottom
        assert min(band.std() for band in bands) > 3.0
        levels[scheme] = pixels.mean()
    assert levels["dark"] < 80 < 200 < levels["light"]
