"""Text with formulas as HTML: LaTeX becomes MathML, which browsers show without a script.

Decisions:
- The notation is a small part of Markdown: `$x^2$`, `` `code` `` and `**strong**`. The rest is
  text. So our sentences can be read as they stand in the source.
- A formula that the library cannot convert whole is an error. The library itself would show an
  unknown command as it stands, drop a missing argument, or take a stray brace for a letter.
"""

import re
import unicodedata
import xml.etree.ElementTree as ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape

NUM_ARGUMENTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3}
PARTS = re.compile(r"(\(?)\$([^$]+)\$([.,;:)]*)|`([^`]+)`|\*\*([^*]+)\*\*")
MATHML = "{http://www.w3.org/1998/Math/MathML}"
TIGHT = tuple("/∂∞")
"""Operators without blanks around them."""
BEFORE_A_SIGN = tuple("=([,←→≥≤<>∼")
"""After these a minus is a sign, not a difference."""
ElementTree.register_namespace("", MATHML.strip("{}"))


def typeset(text: str) -> Markup:
    """`text` as HTML, its formulas as MathML and everything else escaped.

    Only for text of ours: words and options of a run may hold a dollar sign.

    Raises: ValueError for a formula that cannot be converted, or a dollar sign on its own.
    """
    parts, end = [], 0
    for match in PARTS.finditer(text):
        parts += [_plain(text[end : match.start()]), _marked(*match.groups(""))]
        end = match.end()
    return Markup("").join([*parts, _plain(text[end:])])


def _plain(text: str) -> Markup:
    if "$" in text:
        raise ValueError(f"a dollar sign without its partner: {text!r}")
    return escape(text)


def _marked(before: str, latex: str, after: str, code: str, strong: str) -> Markup:
    if latex:  # no line ends between a formula and its punctuation
        pieces = (before, _formula(latex, "inline"), after)
        return Markup('<span class="inline">{}{}{}</span>').format(*pieces)
    if code:
        return Markup("<code>{}</code>").format(code)
    return Markup("<strong>{}</strong>").format(typeset(strong))


def displayed(latex: str) -> Markup:
    """A formula on a line of its own, as HTML; a narrow page breaks it where `latex` has lines.

    Raises: ValueError for a line that cannot be converted.
    """
    lines = [_formula(line, "block") for line in latex.splitlines()]
    return Markup('<div class="formula">{}</div>').format(Markup("").join(lines))


def _formula(latex: str, display: str) -> Markup:
    try:
        tree = ElementTree.fromstring(convert(latex, display=display))
        for element in tree.iter():
            _check(element)
    except Exception as error:  # the library's exceptions have no common class
        raise ValueError(f"this formula cannot be typeset: {latex!r} ({error!r})") from error
    for row in tree.iter():
        for before, element in list(zip([None, *row], row, strict=False)):
            _mend(element, before)
        _space_functions(row)
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def _check(element: ElementTree.Element) -> None:
    """Raise ValueError for what the library lets pass."""
    tag = element.tag.removeprefix(MATHML)
    if len(element) != NUM_ARGUMENTS.get(tag, len(element)):
        raise ValueError(f"{tag} with {len(element)} arguments")
    if tag == "mi" and set(element.text or "") & set("\\{}&$"):
        raise ValueError(f"unknown: {element.text}")


def _mend(element: ElementTree.Element, before: ElementTree.Element | None) -> None:
    """Operators that the library takes for letters, and the blanks around operators."""
    symbol = element.text or ""
    if element.tag == f"{MATHML}mi" and len(symbol) == 1 and unicodedata.category(symbol)[0] != "L":
        element.tag, element.text = f"{MATHML}mo", "∼" if symbol == "~" else symbol
        element.set("stretchy", "false")
    if symbol == "‖":
        element.attrib.setdefault("stretchy", "false")
    if symbol in TIGHT:
        element.attrib |= {"lspace": "0", "rspace": "0"}
    if symbol == "−" and before is not None and before.text in BEFORE_A_SIGN:
        element.set("form", "prefix")


def _space_functions(row: ElementTree.Element) -> None:
    """A thin blank before and after the name of a function, but none at an operator."""
    for name in [e for e in row if e.tag == f"{MATHML}mi" and len(e.text or "") > 1]:
        for shift in (0, 1):
            at = list(row).index(name) + shift
            neighbour = row[at - 1 + shift] if 0 < at < len(row) else name
            if neighbour is not name and neighbour.tag not in (f"{MATHML}mo", f"{MATHML}mspace"):
                row.insert(at, ElementTree.Element(f"{MATHML}mspace", width="0.167em"))
