"""Ctrl-C and SIGTERM while a run trains: noted at once, acted on when the model is between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn


@dataclass
class Interruption:
    """The first signal that came, 0 so far."""

    number: int = 0

    def act(self) -> NoReturn:
        """Stop as this signal would have: KeyboardInterrupt for Ctrl-C, exit code 143 for SIGTERM."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.number)


@contextmanager
def catch_signals() -> Iterator[Interruption]:
    """Let Ctrl-C and SIGTERM only be noted inside; what was not acted on by the end acts there.

    A second Ctrl-C acts at once. A SIGTERM behind a Ctrl-C does not: whoever started several runs sends both.
    Outside the main thread, where Python handles no signals, nothing changes.
    """
    noted = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        again = noted.number != 0
        noted.number = noted.number or number
        if again and number == signal.SIGINT:
            noted.act()

    here = threading.current_thread() is threading.main_thread()
    # A process in the background may have been told to ignore Ctrl-C.
    heard = [
        n
        for n in (signal.SIGINT, signal.SIGTERM)
        if here and signal.getsignal(n) is not signal.SIG_IGN
    ]
    before = [(number, signal.signal(number, note)) for number in heard]
    try:
        yield noted
    finally:
        for number, handler in before:
            signal.signal(number, handler or signal.SIG_DFL)
    if noted.number:
        noted.act()
