"""What is wrong with an option, in one line and in our words.

Decisions:
- Hydra and OmegaConf name their own types and files. Their messages are recognised by pattern, and
  said again with the option's name, what is allowed and what came.
- A message that no pattern recognises is shown as it is, without its internals.
"""

import dataclasses
import re
from collections.abc import Sequence
from difflib import get_close_matches
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import OverrideParseException

from w2v_inf import config as options
from w2v_inf.config import MEMBERS, Config

RENAMED_OPTIONS = {
    "model.storage": "model.dtype",
    "model.memory_gib": "model.pair_table_gib",
}
RENAMED_EXPERIMENTS = {
    f"figure-{figure}": "figures" for figure in ("accuracy", "loss", "pca", "sections")
}
HYDRA_INTERNALS = (
    "full_key:",
    "object_type=",
    "reference_type=",
    "Set the environment",
    "To append to your config",
    "Config search path",
    "See https:",
)
"""First words of lines in Hydra's messages that are no use to a user."""
WHERE = "(options: --help, or w2v_inf/config/)"
LITERAL = r"${NAME} stands for the value of NAME: for these characters themselves write \${NAME}"
ALLOWED = {int: "a whole number", float: "a number", str: "a text"}


def explain(error: Exception, words: Sequence[str] = ()) -> str:
    """In one line why Hydra or OmegaConf rejects an option.

    words: of the command line, to find a value that a blank separates from its option.
    """
    return " ".join(_explain(error, words).split())  # what a user typed may break lines


def _explain(error: Exception, words: Sequence[str]) -> str:
    """`explain`, perhaps in several lines."""
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, list(words))
    text = _text_of(error)
    for pattern, say in PATTERNS.items():
        found = re.search(pattern, text)
        if found and (message := say(*found.groups())):
            return message
    return f"{text} {f'({LITERAL})' if '${' in text else WHERE}"


def unknown_option(option: str, kind: Any) -> str:
    """Why `option` does not exist, where `kind` is the dataclass of its group."""
    if new := RENAMED_OPTIONS.get(option):
        return f"{option} is now {new}"
    group, _, name = option.rpartition(".")
    owners = [member.name for member in MEMBERS.get(group, ()) if name in _names(group, member)]
    if owners:
        others = " or ".join(f"{group}={owner}" for owner in owners)
        advice = f"it is one of {others}"
        if option == "corpus.path":
            advice = "for your own text add corpus=file"
        return f"{option} is not an option of {group}={kind.name}: {advice}"
    names = _names(group, kind)
    likely = _likely(group, name, names)
    return f"{option} is not an option{_suggest(likely, names)} {WHERE}"


def _text_of(error: Exception) -> str:
    """The messages of an exception and its causes, without Hydra's internals."""
    messages = []
    cause: BaseException | None = error
    while cause is not None:
        messages.append(_without_internals(str(cause)))
        cause = cause.__cause__
    return ": ".join(dict.fromkeys(message.rstrip(".") for message in messages if message))


def _without_internals(message: str) -> str:
    lines = [line.strip() for line in message.splitlines()]
    end = next((i for i, line in enumerate(lines) if line.startswith(HYDRA_INTERNALS)), len(lines))
    return " ".join(line for line in lines[:end] if line)


def _unreadable(word: str, words: list[str]) -> str:
    """An option without a value, or with characters that are special to Hydra."""
    if "=" in word:
        example = "'corpus.path=\"my text (1).txt\"'"
        return f"{word} cannot be read: write NAME=VALUE, and quote special characters: {example}"
    following = words[words.index(word) + 1 :] if word in words else []
    values = [other.lstrip("=") for other in following[:2] if other != "="]
    value = values[0] if values and "=" not in values[0] else "VALUE"
    return f"{word} has no value: write {word}={value}, without blanks"


def _several_values(option: str, value: str) -> str:
    hint = type_of(option)
    if get_origin(hint) is list:
        return _is_list(option, value)
    return f"{option}={value}: several values need a sweep: add -m"


def wrong_value(option: str, value: str) -> str:
    """Why `option` cannot have this value; empty for an option of Hydra's own."""
    hint = type_of(option)
    if hint is None:
        return ""
    if dataclasses.is_dataclass(hint):
        return f"{option} is a group of options: write {option}.NAME=VALUE"
    if get_origin(hint) is list and not value.startswith("["):
        return _is_list(option, value)
    return f"{option} must be {_allowed(hint)}, got {value or 'nothing'}"


def _is_list(option: str, value: str) -> str:
    return f"{option} is a list: write {option}=[{value}]"


def _unknown_key(option: str, class_name: str) -> str:
    kind = getattr(options, class_name, None)
    return unknown_option(option, kind) if kind else ""


def _unknown_in_experiment(experiment: str, key: str, class_name: str) -> str:
    for group, members in MEMBERS.items():
        for member in members:
            if member.__name__ == class_name:
                return (
                    f"experiment={experiment} sets {group}.{key}, which {group}={member.name} does "
                    f"not have: leave out the experiment and write its other options"
                )
    return ""


def _unknown_member(group: str, name: str, existing: str) -> str:
    if group == "experiment" and (new := RENAMED_EXPERIMENTS.get(name)):
        return f"experiment={name} is now experiment={new} (plot.figure=NAME for one figure)"
    names = existing.split()
    likely = get_close_matches(name.lower(), names, 1)
    return f"{group}={name} does not exist{_suggest(likely, names)}"


def _no_name(kind: str) -> str:
    return f"corpus, model and experiment take a name, got {kind}: for instance corpus=sample"


PATTERNS = {
    r"Ambiguous value for argument '(.+?)=(.*?)' 1\.": _several_values,
    r"Error merging override \+*([\w.]+)=(.*?): (?:Value|Invalid|Cannot|field) ": wrong_value,
    r"Could not override '(.+?)': Key '.+?' not in '(\w+)'": _unknown_key,
    r"In 'experiment/([\w/-]+)': ConfigKeyError .*: Key '(\w+)' not in '(\w+)'": (
        _unknown_in_experiment
    ),
    r"Could not find '([\w/]+)/(.*?)' Available options in '[\w/]+': (.*)": _unknown_member,
    r"Config group override must be a string or a list. Got (\w+)": _no_name,
}
"""Messages of Hydra, and who says them in our words."""


def _kinds(group: str) -> Sequence[Any]:
    """The dataclasses of a group of options; all members of corpus and model."""
    if not group:
        return [Config]
    kind = get_type_hints(Config).get(group)
    return MEMBERS.get(group) or ([kind] if kind else [])


def type_of(option: str) -> Any:
    """The declared type of an option, or None."""
    group, _, name = option.rpartition(".")
    hints = (get_type_hints(kind).get(name) for kind in _kinds(group))
    return next((hint for hint in hints if hint is not None), None)


def _allowed(hint: Any) -> str:
    """`a whole number, or null`, `auto or never`, ..."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    if get_origin(hint) is list:
        return f"a list of {ALLOWED[kinds[0]].partition(' ')[2]}s"
    if kinds:
        return f"{_allowed(kinds[0])}, or null"
    if issubclass(hint, Enum):
        *others, last = hint.__members__
        return f"{', '.join(others)} or {last}"
    return ALLOWED[hint]


def _names(group: str, kind: Any) -> list[str]:
    """The options of a dataclass. A member's name is none: GROUP=NAME chooses it."""
    names = [f.name for f in dataclasses.fields(kind)]
    return [name for name in names if name != "name"] if group in MEMBERS else names


def _likely(group: str, name: str, names: list[str]) -> list[str]:
    """The option that was probably meant: of this group, or else of any."""
    if own := get_close_matches(name, names, 1):
        return [f"{group}.{own[0]}" if group else own[0]]
    elsewhere = {
        leaf: f"{other}.{leaf}"
        for other in _names("", Config)
        for kind in _kinds(other)
        if dataclasses.is_dataclass(kind)
        for leaf in _names(other, kind)
    }
    return [elsewhere[leaf] for leaf in get_close_matches(name, list(elsewhere), 1)]


def _suggest(likely: list[str], names: list[str]) -> str:
    start = f": did you mean {likely[0]}?" if likely else "."
    return f"{start} There are {', '.join(names)}"
