"""Turn text into a folder of int32 tokens, document offsets and a vocabulary.

Decisions:
- A word is a run of bytes between ASCII blanks (space, tab, newline, vertical tab, form feed,
  carriage return), exactly as in `bytes.split()`. A document is a line with at least one word.
- A byte order mark (U+FEFF) is a blank. It begins many files, and stays where files are joined.
- Text arrives in pieces of any size. It is cut into blocks of about 16 MiB, each after a blank. So
  a file of one long line streams too. Memory is a few times the block, plus the vocabulary.
- numpy finds the words of a block, and Arrow's hash table numbers them. Python handles only the
  distinct words of each block.
- Ids first follow the order of appearance. A second pass over the tokens renumbers them by count
  (`corpus/encoded_folder.py`). The text itself is read once.
- `corpus.min_count` is not applied here. Ids are sorted by count, so each choice keeps a prefix of
  the vocabulary (see `corpus/vocabulary.py`).
"""

import io
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from w2v_inf.corpus.encoded_folder import TOKENS, Origin, finish, writing
from w2v_inf.errors import UserError

BLANKS = b" \t\n\v\f\r"
_BOM = b"\xef\xbb\xbf"
_IS_BLANK = bytes(byte in BLANKS for byte in range(256))
_BLOCK_BYTES = 16 << 20
log = logging.getLogger(__name__)


def encode(chunks: Iterable[bytes], folder: Path, origin: Origin) -> None:
    """Encode text into `folder`, whole or not at all. A folder that appears meanwhile is kept.

    Writes `tokens.bin` (little-endian int32 ids of all T words), `documents.npy` (int64 offsets of
    the documents, [documents + 1], the last is T), `vocab.tsv` and `corpus.json`.

    Args:
      chunks: consecutive pieces of UTF-8 text, each of any size below 1 GiB.
    Raises: UserError for text that is not UTF-8 (with its byte offset), for fewer than two distinct
      words, and if the folder cannot be written. Exceptions of `chunks` pass through.
    Cost: about 2 s of one core and 0.5 GB for 100 MB of English.
    """
    with writing(folder) as draft:
        with (draft / TOKENS).open("xb") as file:
            words, counts, documents = _encode_blocks(chunks, file, origin.source)
        finish(draft, words, counts, documents, asdict(origin))


def _encode_blocks(
    chunks: Iterable[bytes], file: io.BufferedWriter, source: str
) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """Write ids in order of first appearance.

    Returns: words [V], counts [V], document offsets [documents + 1].
    """
    numbers = _Numbers()
    counts = np.zeros(0, np.int64)
    boundaries = [np.zeros(1, np.int64)]
    num_tokens, num_bytes, reported = 0, 0, time.monotonic()
    for block in _cut_at_blanks(chunks, _BLOCK_BYTES, source):
        _check_text(block, num_bytes, source)
        block = block.replace(_BOM, b"   ")
        words, newlines = _find_words(block)
        coded = words.dictionary_encode()
        distinct = coded.dictionary.to_pylist()
        ids = np.fromiter(map(numbers.__getitem__, distinct), np.dtype("<i4"), len(distinct))
        local = coded.indices.to_numpy()
        if len(numbers) > len(counts):  # doubled, so that all growth costs linear time
            counts = np.concatenate([counts, np.zeros(len(numbers), np.int64)])
        counts[ids] += np.bincount(local, minlength=len(ids))
        file.write(ids[local].data)
        boundaries.append(_drop_repeats(newlines) + num_tokens)
        num_tokens, num_bytes = num_tokens + len(local), num_bytes + len(block)
        if time.monotonic() - reported > 10:
            reported = time.monotonic()
            log.info(
                "encoding %s: %d MiB, %s words so far", source, num_bytes >> 20, f"{num_tokens:,}"
            )
    if len(numbers) < 2:
        found = f"only {next(iter(numbers)).decode()[:40]!r}" if numbers else "no words"
        raise UserError(
            f"{source}: a corpus needs at least 2 distinct words, found {found}: "
            "give another file or corpus"
        )
    documents = _drop_repeats(np.concatenate([*boundaries, np.array([num_tokens])]))
    return list(numbers), counts[: len(numbers)], documents


class _Numbers(dict[bytes, int]):
    """Number keys in the order of their first look-up."""

    def __missing__(self, key: bytes) -> int:
        self[key] = number = len(self)
        return number


def _cut_at_blanks(chunks: Iterable[bytes], block_bytes: int, source: str) -> Iterator[bytes]:
    """Blocks of at least `block_bytes`, except the last. Each ends with a blank: no word is cut."""
    pending: list[bytes] = []
    num_pending = 0
    for chunk in chunks:
        pending.append(chunk)
        num_pending += len(chunk)
        if num_pending < block_bytes:
            continue
        text = b"".join(pending)
        cut = 1 + max(text.rfind(blank) for blank in BLANKS)
        if cut:
            yield text[:cut]
        elif num_pending > 4 * block_bytes:
            raise UserError(
                f"{source}: {num_pending:,} bytes without a blank: "
                "words must be separated by blanks or newlines"
            )
        pending = [text[cut:]]
        num_pending = len(text) - cut
    if num_pending:
        yield b"".join([*pending, b"\n"])


def _check_text(block: bytes, offset: int, source: str) -> None:
    """Raises: UserError if the block, which starts at byte `offset` of the text, is no UTF-8 text.

    Zero bytes are valid UTF-8, but no text has them. UTF-16, tar and most binary files do.
    """
    try:
        block.decode()
        place = block.find(0)
    except UnicodeDecodeError as error:
        place = error.start
    if place >= 0:
        where = f"byte {offset + place:,} (0x{block[place]:02x})"
        advice = "is it another format? " if block[place] == 0 else ""
        raise UserError(
            f"{source} must be UTF-8 text, is not at {where}: {advice}convert it first, "
            "e.g. with iconv"
        )


def _find_words(block: bytes) -> tuple[pa.Array, np.ndarray]:
    """Words of a block that ends with a blank, and the number of words before each newline."""
    blank = np.frombuffer(block.translate(_IS_BLANK), np.bool_)
    edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
    if not blank[0]:
        edges = np.concatenate([np.zeros(1, np.int64), edges])
    starts, ends = edges[::2], edges[1::2]
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(ends - starts, out=offsets[1:])
    letters = block.translate(None, BLANKS)
    # binary, not string: UTF-8 has been checked, and bytes make cheaper keys.
    words = pa.Array.from_buffers(
        pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
    )
    newlines = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    return words, np.searchsorted(starts, newlines)


def _drop_repeats(rising: np.ndarray) -> np.ndarray:
    """Offsets without repeats. A line without words has the offset of the next line."""
    # np.unique would sort or hash.
    return rising[np.diff(rising, prepend=-1) != 0]
