"""Options as words of a command line: texts as they were typed, and values in Hydra's grammar.

Decisions:
- Hydra's grammar gives a meaning to = # , ' " ( ) [ ] { } and to digits with underscores, and knows
  ASCII letters only. A path may have any of them. So the value of an option whose type is text is
  put in quotes before Hydra reads it: what was typed is what counts.
- Left to Hydra are values that are quoted already, `null`, and with -m lists and functions of
  values: `corpus.path=a.txt,b.txt`, `corpus.path=glob(*)`. `${NAME}` stays an interpolation.
"""

import re
from collections.abc import Sequence
from typing import Any

from w2v_inf.mistakes import type_of

SWEEP_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
SWEEP_FUNCTIONS = re.compile(r"(choice|glob|range|interval|sort|shuffle|tag)\(.*\)", re.S)

QUOTED = re.compile(r"(['\"]).*\1", re.S)
QUOTED_PART = re.compile(rf"(?:^|,)\s*{QUOTED.pattern}\s*(?:,|$)", re.S)


def as_typed(words: Sequence[str]) -> list[str]:
    """The words of a command line, with the values of text options in quotes."""
    is_sweep = any(word in SWEEP_FLAGS for word in words)
    return [_as_typed(word, is_sweep) for word in words]


def _as_typed(word: str, is_sweep: bool) -> str:
    found = re.fullmatch(r"(\+{0,2}([\w.]+)=)(.*)", word, re.S)
    kind = type_of(found[2]) if found else None
    if found is None or kind not in (str, list[str]) or found[2].endswith(".name"):
        return word
    start, value = found[1], found[3]
    if kind == list[str]:
        is_list = len(value) > 2 and value[0] == "[" and value[-1] == "]"
        if not is_list or (is_sweep and "]," in value):
            return word
        return f"{start}[{_quoted_parts(value[1:-1])}]"
    if value in ("", "null") or (is_sweep and SWEEP_FUNCTIONS.fullmatch(value)):
        return word
    if is_sweep:
        return start + _quoted_parts(value)
    return word if QUOTED.fullmatch(value) else start + _in_quotes(value)


def _quoted_parts(values: str) -> str:
    """`a, b` with each part in quotes; as it is if a part is quoted already."""
    if QUOTED_PART.search(values):
        return values
    return ",".join(_in_quotes(part.strip()) for part in values.split(","))


def _in_quotes(text: str) -> str:
    # Hydra reads a backslash as an escape only before a quotation mark.
    escaped = re.sub(r'(\\*)"', r"\1\1\"", re.sub(r"(\\+)$", r"\1\1", text))
    return f'"{escaped}"'


def quote(value: Any) -> str:
    """A value as a word of Hydra's grammar, for commands that are shown: in quotes if need be."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quote, value))}]"
    if value is None:
        return "null"
    text = str(value)
    is_plain = not isinstance(value, str) or re.fullmatch(r"[A-Za-z/.][\w.+/-]*", text, re.ASCII)
    if is_plain and (not isinstance(value, str) or not _is_a_number_or_word(text)):
        return text
    return _in_quotes(escape(text))


def _is_a_number_or_word(text: str) -> bool:
    """Whether Hydra would read this text as a number, a truth value or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("null", "true", "false")
    return True


def escape(text: str) -> str:
    """A text in which OmegaConf finds no interpolation: `${x}` stays those four characters."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
