"""`--help`: every option with its default, choices and meaning, read from config.py, where they are written once."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_type_hints

from omegaconf import MISSING

from w2v_inf import config as options
from w2v_inf.config import Config

COLUMNS, MEANING_AT = 120, 40
HEAD = """Options are given as NAME=VALUE, in any order, lists as NAME=[a,b]. corpus=NAME and model=NAME choose a member, which has its own
options. experiment=NAME takes a named set of options from conf/experiment/. -m tries every combination of NAME=a,b,c; --hydra-help has
Hydra's own flags. Tables go to stdout, logs to stderr. Exit codes: 0 done, 2 a mistake, said in one line, 130 and 143 interrupted."""
CHOSEN = {"corpus": (options.CorpusConfig, options.CORPORA), "model": (options.ModelConfig, options.MODELS)}


def describe(script: str) -> str:
    """The help of a script whose docstring is `script`."""
    documented, hints = _documentation(), get_type_hints(Config)
    lines = [script.strip(), "", *textwrap.wrap(HEAD, COLUMNS)]
    for f in dataclasses.fields(Config):
        if dataclasses.is_dataclass(hints[f.name]):
            kind, members = CHOSEN.get(f.name, (hints[f.name], ()))
            lines += ["", f"{f.name}: {documented[kind.__name__]['']}", *_explain(f.name, kind, documented)]
            for member in members:
                lines.append(f"  {f.name}={member.name}: {documented[member.__name__]['']}")
                lines += _explain(f.name, member, documented, kind)
    return "\n".join([*lines, "", "general:", *_explain("", Config, documented)])


def _documentation() -> dict[str, dict[str, str]]:
    """For each class of config.py the docstrings of its fields, and its own under the empty name."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(options)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = {"": ast.get_docstring(node) or ""}
            for field, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                    found[node.name][field.target.id] = " ".join(str(text).split())
    return found


def _explain(group: str, kind: Any, documented: dict[str, dict[str, str]], base: Any = None) -> Iterator[str]:
    """A line an option of `kind`, less those that `base` has with the same default; long meanings go on below."""
    hints = get_type_hints(kind)
    known = {f.name: _default(f) for f in dataclasses.fields(base)} if base else {}
    for f in dataclasses.fields(kind):
        if f.name == "name" or dataclasses.is_dataclass(hints[f.name]) or known.get(f.name) == _default(f):
            continue
        meaning = next((text for c in kind.__mro__ if (text := documented.get(c.__name__, {}).get(f.name))), "")
        choices = " | ".join(hints[f.name].__members__) if isinstance(hints[f.name], type) and issubclass(hints[f.name], Enum) else ""
        first, *more = textwrap.wrap(". ".join(part for part in (choices, meaning) if part), COLUMNS - MEANING_AT) or [""]
        option = f"    {group}{'.' if group else ''}{f.name}={_default(f)}"
        if len(option) < MEANING_AT:
            yield f"{option:{MEANING_AT}}{first}".rstrip()
        else:
            more = [first, *more]
            yield option
        yield from (" " * MEANING_AT + line for line in more)


def _default(f: Any) -> str:
    value = f.default_factory() if f.default is dataclasses.MISSING else f.default
    return str(value.value if isinstance(value, Enum) else "" if value == MISSING else value)
