"""Options that are paths: marked in the schema, with ~ expanded; names that no file has."""

import dataclasses
import os
from dataclasses import field
from typing import Any

from w2v_inf.errors import check


def path_option(default: Any = "") -> Any:
    """A field of config/ whose value is a path, or with `list` as the default a list of paths."""
    if default is list:
        return field(default_factory=list, metadata={"is_path": True})
    return field(default=default, metadata={"is_path": True})


def expand_paths(options: Any, prefix: str = "") -> None:
    """Expand ~ in all paths of a dataclass and of its groups, in place.

    Raises: UserError for a name that no file can have, and for ~ without a home folder.
    """
    for f in dataclasses.fields(options):
        value, name = getattr(options, f.name), prefix + f.name
        if dataclasses.is_dataclass(value):
            expand_paths(value, f"{name}.")
        elif f.metadata.get("is_path"):
            is_list = isinstance(value, list)
            paths = [expand(name, path) for path in (value if is_list else [value])]
            setattr(options, f.name, paths if is_list else paths[0])


def expand(option: str, path: str) -> str:
    """The path with ~ expanded. Raises: as `expand_paths`, which names `option`."""
    try:
        ok = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        ok = False
    check(option, repr(path), ok, "a path (no file can have this name)")
    expanded = os.path.expanduser(path)
    has_home = path.split(os.sep)[0] != "~" or expanded != path
    check(option, path, has_home, "a path without ~ (this user has no home folder)")
    return expanded
