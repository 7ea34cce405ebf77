"""TensorBoard's event files, beside metrics.jsonl and with the same numbers.

Decisions:
- The format is a few bytes around what is known, so that no package is needed to write it: records of (length, checksum, data,
  checksum), the data a protobuf `Event` of a time, a step and named scalars.
- metrics.jsonl is the truth. A run that goes on from a checkpoint writes the file anew from what it kept of the metrics.
- A step is a word of text: runs with other batches then share an axis. Times are those of training, from the file's name on.
"""

import struct
import time
from pathlib import Path
from typing import Any

PREFIX = "events.out.tfevents."
PROGRESS = ("loss", "lr", "words_per_s")


def start(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Begin the folder's event file with `lines` of metrics; one that is there keeps its name, and so its time."""
    path = find(folder) or folder / f"{PREFIX}{int(time.time())}.w2v_inf"
    path.write_bytes(
        _record(_event(_began(path), 0, version="brain.Event:2"))
        + b"".join(_of_line(path, line) for line in lines)
    )


def append(folder: Path, line: dict[str, Any]) -> None:
    """Add a line of metrics to the folder's event file, if it has one."""
    path = find(folder)
    if path is not None:
        with path.open("ab") as file:
            file.write(_of_line(path, line))


def find(folder: Path) -> Path | None:
    """The folder's event file."""
    return next(folder.glob(f"{PREFIX}*"), None)


def _began(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX).split(".")[0])


def _of_line(path: Path, line: dict[str, Any]) -> bytes:
    """A line of metrics as a record."""
    if line["event"] == "progress":
        scalars = {name: line[name] for name in PROGRESS}
    else:
        rules = {"3cosadd": line["analogy"], "3cosmul": line["analogy_3cosmul"]}
        scalars = {f"analogy/{rule}": parts["total"]["accuracy"] for rule, parts in rules.items()}
        scalars |= {
            f"similarity/{name}": result["spearman"] for name, result in line["similarity"].items()
        }
    known = {name: value for name, value in scalars.items() if value is not None}
    return _record(_event(_began(path) + line["elapsed_s"], line["words_seen"], known))


def _event(
    wall_time: float, step: int, scalars: dict[str, float] | None = None, version: str = ""
) -> bytes:
    """tensorflow/core/util/event.proto: wall_time = 1, step = 2, file_version = 3, summary = 5."""
    event = b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step)
    if version:
        event += _bytes(3, version.encode())
    # summary.proto: Summary.value = 1; Value.tag = 1, simple_value = 2.
    values = b"".join(
        _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in (scalars or {}).items()
    )
    return event + (_bytes(5, values) if values else b"")


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def _record(data: bytes) -> bytes:
    """TFRecord: length and data, each with its masked checksum."""
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Castagnoli's cyclic redundancy check (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
