"""Text with formulas as HTML: LaTeX becomes MathML, which browsers show without a script.

Decisions:
- The notation is a small part of Markdown: `$x^2$`, `` `code` `` and `**strong**`. The rest is
  text. So our sentences can be read as they stand in the source.
- A formula that the library cannot convert whole is an error. The library itself would show an
  unknown command as it stands, drop a missing argument, or take a stray brace for a letter.
"""

import html
import re
import unicodedata
import xml.etree.ElementTree as ElementTree

from latex2mathml.converter import convert
from markupsafe import Markup, escape

NUM_ARGUMENTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3}
PARTS = re.compile(r"\$([^$]+)\$|`([^`]+)`|\*\*([^*]+)\*\*")
IDENTIFIER = re.compile(r"<mi>(&#x[0-9A-F]+;)</mi>")


def typeset(text: str) -> Markup:
    """`text` as HTML, its formulas as MathML and everything else escaped.

    Only for text of ours: words and options of a run may hold a dollar sign.

    Raises: ValueError for a formula that cannot be converted, or a dollar sign on its own.
    """
    parts, end = [], 0
    for match in PARTS.finditer(text):
        parts += [_plain(text[end : match.start()]), _marked(*match.groups())]
        end = match.end()
    return Markup("").join([*parts, _plain(text[end:])])


def _plain(text: str) -> Markup:
    if "$" in text:
        raise ValueError(f"a dollar sign without its partner: {text!r}")
    return escape(text)


def _marked(latex: str | None, code: str | None, strong: str | None) -> Markup:
    if latex:
        return _formula(latex, "inline")
    if code:
        return Markup("<code>{}</code>").format(code)
    return Markup("<strong>{}</strong>").format(typeset(strong or ""))


def displayed(latex: str) -> Markup:
    """A formula on a line of its own, as HTML; a narrow page breaks it where `latex` has lines.

    Raises: ValueError for a line that cannot be converted.
    """
    lines = [_formula(line, "block") for line in latex.splitlines()]
    return Markup('<div class="formula">{}</div>').format(Markup("").join(lines))


def _formula(latex: str, display: str) -> Markup:
    try:
        mathml = convert(latex, display=display)
        _check(ElementTree.fromstring(mathml))
    except Exception as error:  # the library's exceptions have no common class
        raise ValueError(f"this formula cannot be typeset: {latex!r} ({error!r})") from error
    return Markup(IDENTIFIER.sub(_as_operator, mathml))


def _check(element: ElementTree.Element) -> None:
    """Raise ValueError for what the library lets pass."""
    for part in element.iter():
        tag = part.tag.rpartition("}")[2]
        if len(part) != NUM_ARGUMENTS.get(tag, len(part)):
            raise ValueError(f"{tag} with {len(part)} arguments")
        if tag == "mi" and set(part.text or "") & set("\\{}&$"):
            raise ValueError(f"unknown: {part.text}")


def _as_operator(identifier: re.Match[str]) -> str:
    """The library takes some operators for letters: brackets, the prime and the relation ~."""
    symbol = html.unescape(identifier[1])
    if unicodedata.category(symbol).startswith("L"):
        return identifier[0]
    return f"<mo>{'∼' if symbol == '~' else symbol}</mo>"
