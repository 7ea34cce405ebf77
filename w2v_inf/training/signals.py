"""Ctrl-C and SIGTERM during training: recorded at once, obeyed between two steps of the model."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn


@dataclass
class Interruption:
    """The first signal that came; 0 if none did."""

    number: int = 0

    def act(self) -> NoReturn:
        """Stop as the signal asks: KeyboardInterrupt for Ctrl-C, exit code 143 for SIGTERM."""
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.number)


@contextmanager
def catch_signals() -> Iterator[Interruption]:
    """Record Ctrl-C and SIGTERM inside the block; the end obeys a signal that the block did not.

    A second Ctrl-C stops at once. A SIGTERM after a Ctrl-C does not: a program that stops several
    runs sends both. Outside the main thread nothing changes, since Python handles no signals there.
    """
    caught = Interruption()

    def catch(number: int, frame: FrameType | None) -> None:
        is_second = caught.number != 0
        caught.number = caught.number or number
        if is_second and number == signal.SIGINT:
            caught.act()

    is_main_thread = threading.current_thread() is threading.main_thread()
    # A background process may have been told to ignore Ctrl-C.
    handled = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if is_main_thread and signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [(number, signal.signal(number, catch)) for number in handled]
    try:
        yield caught
    finally:
        for number, handler in before:
            signal.signal(number, handler or signal.SIG_DFL)
    if caught.number:
        caught.act()
