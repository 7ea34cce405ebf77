"""What the fuzz tests share: settings, a folder in memory, and the damage that files suffer."""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# Creating and deleting temporary folders costs more time than the tests proper.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def fuzzed(num_examples: int) -> settings:
    """The same examples in every run, without shrinking: a failing example is small as it is."""
    return settings(
        max_examples=num_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )


def damaged(content: bytes, draw: st.DrawFn) -> bytes:
    """The content with one kind of damage that files suffer."""
    where = draw(st.integers(0, max(0, len(content) - 1)))
    match draw(st.sampled_from(["cut", "flip", "zeros", "insert", "drop", "twice", "junk"])):
        case "cut":
            return content[:where]
        case "flip":
            return (
                content[:where]
                + bytes([content[where] ^ (1 << draw(st.integers(0, 7)))])
                + content[where + 1 :]
                if content
                else b""
            )
        case "zeros":
            return content[:where] + bytes(len(content) - where)
        case "insert":
            return content[:where] + draw(st.binary(min_size=1, max_size=9)) + content[where:]
        case "drop":
            return content[:where] + content[where + draw(st.integers(1, 99)) :]
        case "twice":
            return content[:where] + content
        case _:
            return draw(st.binary(max_size=200))
