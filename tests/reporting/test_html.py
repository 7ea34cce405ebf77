"""Templates escape their values, refuse missing ones, and hold figures as SVG data URIs."""

import base64
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from html_page import Page
from jinja2 import UndefinedError

from w2v_inf.errors import UserError
from w2v_inf.reporting.html import svg_data_uri, write_page
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.exhibit import Exhibit

MARKUP = '<b>"&</b>'


def _section(**changed: Any) -> dict[str, Any]:
    drawing = Drawing("name", "title", new_axes()[0], MARKUP)
    exhibit = Exhibit(drawing, [[MARKUP, "b"], ["c", "d"]], [MARKUP])
    section = {"title": MARKUP, "exhibit": exhibit, "reason": ""}
    section["derivation"] = [("p", MARKUP)]
    return section | changed


def test_values_are_never_markup(tmp_path: Path) -> None:
    path = write_page(tmp_path / "a" / "page.html", "theory", title=MARKUP, sections=[_section()])
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "b" not in page.tags and text.startswith("<!doctype html>")
    # title twice, section, caption, cell, note, derivation; the caption again as alt
    assert "".join(page.text).count(MARKUP) == 7 and text.count("&lt;b&gt;") == 8
    assert page.tags.count("td") == 2 and page.tags.count("th") == 2


def test_figures_are_svg_and_repeat() -> None:
    first, again = (svg_data_uri(_section()["exhibit"].drawing) for _ in range(2))
    scheme, data = first.split(",")
    assert first == again and scheme == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_a_section_without_exhibit_gives_its_reason(tmp_path: Path) -> None:
    sections = [_section(exhibit=None, reason="too short")]
    path = write_page(tmp_path / "page.html", "theory", title="t", sections=sections)
    page = Page(path.read_text(encoding="utf-8"))
    assert "Not measured: too short." in page.text and "img" not in page.tags


def test_runs_of_items_become_lists(tmp_path: Path) -> None:
    blocks = [("li", "a"), ("p", "b"), ("li", "c"), ("li", "d")]
    sections = [_section(exhibit=None, derivation=blocks)]
    path = write_page(tmp_path / "page.html", "theory", title="t", sections=sections)
    tags = Page(path.read_text(encoding="utf-8")).tags
    assert tags[tags.index("h3") + 1 :] == ["ul", "li", "p", "ul", "li", "li"]


def test_missing_values_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'sections' is undefined"):
        write_page(tmp_path / "page.html", "theory", title="t")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_pages_are_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*choose another folder"):
        write_page(tmp_path / "file" / "page.html", "theory", title="t", sections=[])


def test_names_of_files_need_not_be_utf_8(tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", "theory", title="a\udcffb", sections=[])
    assert "a\\udcffb" in path.read_text(encoding="utf-8")
