"""Formulas of the documentation: GitHub shows them, and none is left as plain text.

Decisions:
- GitHub reads Markdown before it reads formulas: it takes the backslash before a punctuation mark,
  a list from a line that begins with a sign, and a cell of a table from a bar. None may occur.
- The library that typesets our pages must understand every formula.
"""

import re
from pathlib import Path

import pytest

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.reporting.typeset import displayed, typeset

PAGES = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").glob("*.md")])
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
DISPLAYED = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.DOTALL | re.MULTILINE)
PLAIN = re.compile(r"[²³√ᵀ∑∞≤≥≈ησλξ]|\b[A-Za-z]\^|\b[VnrK] × |× [Vnr]\b")
"""What a formula in plain text has."""


def _without_code(path: Path) -> str:
    return CODE.sub("code", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_formulas_are_valid_for_github_and_for_our_library(path: Path) -> None:
    text = _without_code(path)
    for latex in DISPLAYED.findall(text):
        displayed(re.sub(r"\s*\\tag\{\d+\}", "", latex.replace("\n", " ")))
        assert not re.search(r"^\s*[-+*=>#]|^\s*\d+\.", latex, re.MULTILINE)
    formulas = re.findall(r"\$[^$]*\$", DISPLAYED.sub("", text))
    assert not any("\n" in latex for latex in formulas)
    for line in DISPLAYED.sub("", text).splitlines():
        for latex in re.findall(r"\$[^$]+\$", line):
            typeset(latex)
            assert not (line.startswith("|") and "|" in latex)
        assert "$" not in re.sub(r"(?<![\w$])\$[^$\s]([^$]*[^$\s])?\$(?!\w)", "", line)
    assert not re.findall(r"\\[^A-Za-z]", "".join([*formulas, *DISPLAYED.findall(text)]))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_formula_is_left_as_plain_text(path: Path) -> None:
    text = re.sub(r"\$[^$]+\$", "", DISPLAYED.sub("", _without_code(path)))
    assert [line for line in text.splitlines() if PLAIN.search(line)] == []
