"""report.html and theory.html as a browser shows them, on a desk, on a phone and on paper."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from composed import config_of
from fake_runs import make_family
from quick_claims import quick_claims

from w2v_inf.reporting.report import write_report
from w2v_inf.runs.results import find_runs
from w2v_inf.theory import page as theory_page

DESK, PHONE, PAPER = 1280, 390, 794
"""Widths in pixels."""
SMALLEST = 12
"""Pixels of the smallest letters, but for indices in formulas."""
SMALL_TEXT = """
    [...document.querySelectorAll('body :not(math, math *)')]
        .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()))
        .filter(e => parseFloat(getComputedStyle(e).fontSize) < SMALLEST)
        .map(e => e.textContent)
""".replace("SMALLEST", str(SMALLEST))
IMAGES = """
    [...document.querySelectorAll('img')].map(e => ({
        alt: e.alt, shown: e.getBoundingClientRect().width, drawn: e.naturalWidth}))
"""
OVERFLOW = "document.documentElement.scrollWidth - innerWidth"
TEXT_WIDTH = "document.querySelector('h1').getBoundingClientRect().width"
WIDEST_FORMULA = """
    Math.max(...[...document.querySelectorAll('math')].map(e => e.getBoundingClientRect().right))
"""
OPEN_DETAILS = "document.querySelectorAll('details').forEach(e => e.open = true)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("pages")
    make_family(folder / "runs", widths=(64, 256), seeds=(0, 1))
    report = write_report(find_runs([folder / "runs"]), folder / "report.html")
    with quick_claims():
        theory = theory_page.theory(config_of(f"plot.out={folder}", "num_threads=1"))
    yield {"report": report, "theory": theory}


@pytest.mark.parametrize("width", [DESK, PHONE])
@pytest.mark.parametrize("name", ["report", "theory"])
def test_everything_fits_and_can_be_read(
    name: str, width: int, pages: dict[str, Path], browser_page: Any
) -> None:
    browser_page.set_viewport_size({"width": width, "height": 900})
    browser_page.goto(pages[name].as_uri())
    browser_page.evaluate(OPEN_DETAILS)
    assert browser_page.evaluate(OVERFLOW) == 0
    assert browser_page.evaluate(SMALL_TEXT) == []
    assert browser_page.evaluate(WIDEST_FORMULA) <= width
    text_width, images = browser_page.evaluate(TEXT_WIDTH), browser_page.evaluate(IMAGES)
    assert len(images) >= 5
    for image in images:
        assert image["alt"] and image["shown"] <= text_width
        # At its own size, where the smallest letters have 9 points.
        assert image["shown"] >= 0.99 * image["drawn"] > 0


@pytest.mark.parametrize("name", ["report", "theory"])
def test_pages_can_be_printed(name: str, pages: dict[str, Path], browser_page: Any) -> None:
    browser_page.set_viewport_size({"width": PAPER, "height": 1123})
    browser_page.emulate_media(media="print")
    browser_page.goto(pages[name].as_uri())
    assert browser_page.evaluate(OVERFLOW) == 0
    assert browser_page.evaluate(WIDEST_FORMULA) <= PAPER


def test_indices_stand_below_their_letters(pages: dict[str, Path], browser_page: Any) -> None:
    browser_page.goto(pages["theory"].as_uri())
    base, index = browser_page.evaluate(
        "[...document.querySelector('msub').children].map(e => e.getBoundingClientRect().bottom)"
    )
    assert index > base
