"""Visible words of a Wikipedia XML dump, by the rules of Matt Mahoney's wikifil.pl.

The rules are at mattmahoney.net/dc/textdata.html.

Decisions:
- Rules and order are his, with their oddities, because they define text8 and fil9: an `&` that
  opens no entity takes all text up to the next semicolon. The same words result, in the same order.
- Three things differ. One article is one line (his output has no documents). Blanks may repeat (the
  encoder accepts that). An empty `<text ... />` is an article without words; his program lets the
  markup after it through.
- Compiled patterns work on bytes, article by article, so memory is that of the largest article.
  Repetitions are possessive (`*+`): the same matches, without backtracking.
"""

import re
from collections.abc import Iterable, Iterator

from w2v_inf.errors import UserError

VERSION = "wikifil-1"
_MAX_ARTICLE_BYTES = 256 << 20
_REDIRECT = re.compile(rb"#redirect", re.IGNORECASE)
# Applied in this order, each to the result of the one before.
_RULES = [
    (re.compile(rb"<ref[^<]*+</ref>"), b""),  # footnotes without markup inside
    (re.compile(rb"<[^>]*+>"), b""),  # tags
    (re.compile(rb"\[http:[^] ]*+"), b"["),  # addresses of external links; their text stays
    (re.compile(rb"\|thumb", re.IGNORECASE), b""),  # layout of images; their captions stay
    (re.compile(rb"\|left", re.IGNORECASE), b""),
    (re.compile(rb"\|right", re.IGNORECASE), b""),
    (re.compile(rb"\|[0-9]++px", re.IGNORECASE), b""),
    (re.compile(rb"\[\[image:[^\[\]]*\|", re.IGNORECASE), b""),
    (
        re.compile(rb"\[\[category:([^|\]]*+)[^]]*+\]\]", re.IGNORECASE),
        rb"[[\1]]",
    ),  # names of categories stay
    (re.compile(rb"\[\[[a-z\-]*+:[^\]]*+\]\]"), b""),  # the same article in other languages
    (re.compile(rb"\[\[[^|\]]*+\|"), b"[["),  # targets of links; their text stays
    (re.compile(rb"\{\{[^}]*+\}\}"), b""),  # templates
    (re.compile(rb"\{[^}]*+\}"), b""),  # tables
    (re.compile(rb"[\[\]]"), b""),
    (re.compile(rb"&[^;]*+;"), b" "),  # other entities
]
_DIGITS = b"zero one two three four five six seven eight nine".split()
_TO_LETTERS = bytes(
    byte if byte in range(97, 123) else byte + 32 if byte in range(65, 91) else 32
    for byte in range(256)
)


def wikifil(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Clean lines of a dump, one per article; redirects are left out.

    Args:
      chunks: consecutive pieces of the XML, of any size.
    Raises: UserError for an article of more than 256 MiB (the input is then no dump).
    Cost: about 50 MB of XML per second.
    """
    for text in _article_texts(chunks):
        if not _REDIRECT.search(text):
            yield clean_article(text) + b"\n"


def clean_article(text: bytes) -> bytes:
    """Words of one article's wiki markup, still XML-escaped: a-z and blanks, blanks may repeat."""
    text = text.replace(b"&amp;", b"&").replace(b"&lt;", b"<").replace(b"&gt;", b">")
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return spell_letters(text)


def spell_letters(text: bytes) -> bytes:
    """The last of text8's rules: lower case, digits spelled out, every other byte a blank."""
    for digit, word in enumerate(_DIGITS):
        text = text.replace(b"%d" % digit, b" " + word + b" ")
    return text.translate(_TO_LETTERS)


def _article_texts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Text between `<text ...>` and `</text>`. The last may lack its end: enwik9 stops anywhere."""
    rest = b""
    for chunk in chunks:
        *pieces, rest = (rest + chunk).split(b"</text>")
        yield from filter(None, map(_behind_tag, pieces))
        if len(rest) > _MAX_ARTICLE_BYTES:
            raise UserError(
                f"no </text> in {len(rest) >> 20} MiB: the file must be a Wikipedia XML dump"
            )
    yield from filter(None, [_behind_tag(rest)])


def _behind_tag(piece: bytes) -> bytes:
    # Markup inside a text is escaped, so the last tag opens the text.
    start = piece.rfind(b"<text ")
    end = piece.find(b">", start)
    if start < 0 or end < 0 or piece[end - 1 : end] == b"/":
        return b""
    return piece[end + 1 :]
