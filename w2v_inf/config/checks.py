"""What the dataclasses of the options share."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from w2v_inf.errors import check

if TYPE_CHECKING:  # readers of a Config see numbers, because it fills them in
    FilledInt = int
    FilledFloat = float
else:
    FilledInt = int | None
    FilledFloat = float | None
NULL: Any = None


def check_name(group: str, options: Any) -> None:
    """The name says which member of the group this is. It does not choose one."""
    own = type(options).name
    allowed = f"{own} here: choose with {group}=NAME"
    check(f"{group}.name", options.name, own in (options.name, MISSING), allowed)


def check_finite(prefix: str, options: Any) -> None:
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if isinstance(value, float):
            check(f"{prefix}.{f.name}", value, math.isfinite(value), "a finite number")
