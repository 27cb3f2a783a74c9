"""The report as a reader sees it, in headless Chromium: it loads, fits, sorts, prints."""

from __future__ import annotations

import io
import shutil

import pandas as pd
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CONTRAST = """() => {
  const part = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const kinds = ["p", "a", "code", ".verdict.holds", ".verdict.fails", ".verdict.noted", "figcaption", "td", "summary"];
  return kinds.map((k) => document.querySelector(k)).filter(Boolean).map((e) => {
    const text = light(getComputedStyle(e).color);
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
  });
}"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, that of the system; skipped where there is none."""
    path = next((p for p in map(shutil.which, BROWSERS) if p), None)
    if path is None:
        pytest.skip(f"no browser installed; looked for {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.fixture(scope="module", params=[(390, "light"), (1280, "dark")], ids=["phone", "desk"])
def opened(request, browser, report):
    """The page at a width and in a theme, with what it wrote to the console."""
    width, theme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, offline=True)
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_default_timeout(120_000)  # the machine may be busy
    page.goto(report.as_uri())
    page.wait_for_load_state("load")
    yield page, said
    context.close()


def test_it_loads_without_errors_and_fits(opened):
    page, said = opened
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    measure = "i => [i.complete, i.naturalWidth, i.parentElement.getBoundingClientRect().right]"
    images = page.evaluate(f"[...document.images].map({measure})")
    assert len(images) >= 20
    assert all(complete and width > 0 for complete, width, _ in images)
    assert max(right for *_, right in images) <= page.viewport_size["width"]
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_text_has_contrast(opened):
    """Texts against the page's background: 4.5 to 1 or more (WCAG AA)."""
    page, _ = opened
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) >= 7
    assert min(ratios) >= 4.5


def test_tables_sort_by_mouse_and_keyboard(opened):
    page, said = opened
    table = page.locator("table.data").first
    heads = table.locator("th button")
    numbers = "t => [...t.tBodies[0].rows].map(r => r.cells[{}].dataset.value).filter(v => v !== '').map(Number)"
    column = table.evaluate("t => [...t.tHead.rows[0].cells].findIndex(c => c.classList.contains('number'))")
    heads.nth(column).click()
    assert table.locator("th").nth(column).get_attribute("aria-sort") == "ascending"
    up = table.evaluate(numbers.format(column))
    assert up == sorted(up)
    assert len(up) > 3
    heads.nth(column).focus()
    page.keyboard.press("Enter")
    assert table.locator("th").nth(column).get_attribute("aria-sort") == "descending"
    assert table.evaluate(numbers.format(column)) == up[::-1]
    heads.first.click()
    texts = table.evaluate("t => [...t.tBodies[0].rows].map(r => r.cells[0].textContent)")
    assert texts == sorted(texts, key=str.lower)
    assert table.locator("th[aria-sort='none']").count() == heads.count() - 1
    assert said == []


def test_every_table_can_be_sorted(opened):
    page, said = opened
    buttons = page.locator("table.data th:first-child button")
    assert buttons.count() == page.locator("table.data").count()
    page.evaluate("document.querySelectorAll('table.data th:last-child button').forEach(b => b.click())")
    assert page.locator("table.data th[aria-sort='ascending']").count() == buttons.count()
    assert said == []


def test_data_can_be_downloaded(opened):
    page, _ = opened
    link = page.locator("a[download$='.csv']").first
    rows = page.locator("table.data").first.locator("tbody tr").count()
    with page.expect_download() as waiting:
        link.click()
    content = waiting.value.path().read_bytes()
    assert len(pd.read_csv(io.BytesIO(content))) == rows


def test_the_theme_can_be_chosen(opened):
    page, _ = opened
    back = "getComputedStyle(document.body).backgroundColor"
    automatic, button = page.evaluate(back), page.locator("#theme")
    button.click()
    light = page.evaluate(back)
    button.click()
    dark = page.evaluate(back)
    assert "dark" in button.text_content()
    assert light != dark
    button.click()
    assert page.evaluate(back) == automatic in (light, dark)


def test_it_prints(opened):
    page, _ = opened
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator("figure img").first.is_visible()
