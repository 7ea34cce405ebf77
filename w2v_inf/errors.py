"""The one exception for mistakes that a user can mend, and the checks that raise it."""

from typing import Any

NO_WINDOWS = "w2v_inf runs on Linux and macOS: on Windows use WSL"


class UserError(Exception):
    """A mistake outside the program: an option, a file, the size of the machine.

    The message is one line. It names the option or file and says what is allowed, what came, and
    what to do. Commands print it without a traceback and exit with 2 (cli.py). Characters that
    cannot be printed, which file names may have, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ArgumentError(UserError, ValueError):
    """A wrong argument of a call from Python."""


def printable(text: str) -> str:
    """The text with line breaks and bytes that are no UTF-8, which file names may have, escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def check(option: str, value: Any, ok: bool, allowed: str) -> None:
    """Raises: UserError `OPTION must be ALLOWED, got VALUE` unless `ok`."""
    if not ok:
        raise UserError(f"{option} must be {allowed}, got {value}")


def check_range(option: str, value: int | None, low: int, high: int, null: str = "") -> None:
    """Check that low <= value <= high. `null` says what null stands for, if it is allowed.

    Raises: UserError as `check`.
    """
    also = f", or null for {null}" if null else ""
    ok = bool(null) if value is None else low <= value <= high
    check(option, value, ok, f"from {low:,} to {high:,}{also}")
