"""Headless Chromium, for tests of what a reader sees; conftest.py shares the fixtures."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Playwright's Chromium. Skips without Playwright or Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra dev)")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("needs a chromium on the PATH")
    with playwright.sync_playwright() as running:
        # Root, as in containers, may not use Chromium's sandbox.
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def browser_page(browser: Any) -> Iterator[Any]:
    """A page; errors on its console and requests that leave the machine fail the test."""
    faults: list[str] = []
    page = browser.new_page()
    page.on("console", lambda line: line.type == "error" and faults.append(line.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: faults.append(request.url) if _leaves(request) else None)
    yield page
    page.close()
    assert faults == []


def _leaves(request: Any) -> bool:
    return not request.url.startswith(("file:", "data:"))
