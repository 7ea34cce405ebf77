"""Turn text into a folder of int32 tokens, document offsets and a vocabulary.

Decisions:
- A word is a run of bytes between ASCII blanks (space, tab, newline, vertical tab, form feed,
  carriage return), exactly as in `bytes.split()`. A document is a line with at least one word.
- A byte order mark (U+FEFF) is a blank. It begins many files, and stays where files are joined.
- Text arrives in pieces of any size. It is cut into blocks of about 16 MiB, each after a blank. So
  a file of one long line streams too. Memory is a few times the block, plus the vocabulary.
- numpy finds the words of a block, and Arrow's hash table numbers them. Python handles only the
  distinct words of each block.
- Ids first follow the order of appearance. A second pass over the tokens renumbers them by count.
  The text itself is read once.
- `corpus.min_count` is not applied here. Ids are sorted by count, so each choice keeps a prefix of
  the vocabulary (see `corpus/vocabulary.py`).
- All files go to a hidden folder beside the final one. It is synced, then renamed. So a folder of
  the final name is complete.
- A killed process leaves its draft. The next one that encodes into the same data_dir removes it.
  Each draft is locked by its process, so a draft that can be locked is nobody's.
"""

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import sha256, sync

FORMAT_VERSION = 2
BLANKS = b" \t\n\v\f\r"
_BOM = b"\xef\xbb\xbf"
_IS_BLANK = bytes(byte in BLANKS for byte in range(256))
_BLOCK_BYTES = 16 << 20
_FILES = {"tokens.bin", "documents.npy", "vocab.tsv", "corpus.json"}
_DRAFT = re.compile(r"\..+-\d+-[0-9a-f]{8}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a text comes from; saved with the tokens."""

    name: str
    """Name of the corpus: text8, fil9, ..."""
    source: str
    """File name or address, for messages and records."""
    source_sha256: str
    """sha256, hex, of the source's bytes; without a local file, of the text that identifies it."""
    cleaning: str
    """Name and version of the cleaning rules; empty if the source was clean."""
    licence: str
    synthetic: bool = False


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
    with _writing(folder) as draft:
        with (draft / "tokens.bin").open("xb") as file:
            words, counts, documents = _encode_blocks(chunks, file, origin.source)
        order = _by_count(words, counts)
        vocabulary = Vocabulary(
            [word.decode() for word in order["word"].to_pylist()], order["count"].to_numpy()
        )
        tokens_sha256 = _renumber(draft / "tokens.bin", order["id"].to_numpy())
        vocabulary.save(draft / "vocab.tsv")
        _write_array(draft / "documents.npy", documents)
        info = asdict(origin) | {
            "num_tokens": int(documents[-1]),
            "num_types": len(vocabulary),
            "num_documents": len(documents) - 1,
            "tokens_sha256": tokens_sha256,
            "documents_sha256": sha256(draft / "documents.npy"),
            "vocab_sha256": sha256(draft / "vocab.tsv"),
            "format_version": FORMAT_VERSION,
        }
        (draft / "corpus.json").write_text(json.dumps(info, indent=2) + "\n")


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


def _by_count(words: list[bytes], counts: np.ndarray) -> pa.Table:
    """Columns word, count and id (by first appearance), sorted by falling count, then by word.

    Bytes of UTF-8 sort as code points do.
    """
    columns = [
        pa.array(words, pa.large_binary()),
        pa.array(counts),
        pa.array(np.arange(len(words), dtype=np.int64)),
    ]
    return pa.table(columns, ["word", "count", "id"]).sort_by(
        [("count", "descending"), ("word", "ascending")]
    )


def _renumber(path: Path, order: np.ndarray) -> str:
    """Replace each id in the file by its place in `order` [V]; returns the sha256 of the result.

    Plain calls read and write: under a memory map, a full disk ends in a signal, not in an error.
    """
    new_id = np.empty(len(order), np.dtype("<i4"))
    new_id[order] = np.arange(len(order))
    digest = hashlib.sha256()
    with path.open("r+b") as file:
        while block := file.read(4 * _BLOCK_BYTES):
            tokens = new_id[np.frombuffer(block, "<i4")].data.cast("B")
            file.seek(-len(block), os.SEEK_CUR)
            file.write(tokens)
            digest.update(tokens)
    return digest.hexdigest()


def _write_array(path: Path, array: np.ndarray) -> None:
    # np.save into a file loses the errno of a full disk.
    buffer = io.BytesIO()
    np.save(buffer, array)
    path.write_bytes(buffer.getbuffer())


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    """A draft folder that becomes `folder` at the end. It is removed after any exception."""
    draft = folder.with_name(f".{folder.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    lock = None
    try:
        lock = _make_draft(draft)
        yield draft
        for file in draft.iterdir():
            sync(file)
        _publish(draft, folder)
    except OSError as error:
        raise _write_error(error, folder, draft) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make_draft(draft: Path) -> int | None:
    """Make and lock a draft, and remove those that killed processes have left beside it."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    # Otherwise another process could remove our draft between its making and its locking.
    parent = _lock(draft.parent, fcntl.LOCK_EX)
    try:
        if parent is not None:
            _remove_left_drafts(draft.parent)
        draft.mkdir()
        return _lock(draft, fcntl.LOCK_EX)
    finally:
        if parent is not None:
            os.close(parent)


def _remove_left_drafts(data_dir: Path) -> None:
    for path in data_dir.iterdir():
        if not (_DRAFT.fullmatch(path.name) and path.is_dir() and {*os.listdir(path)} <= _FILES):
            continue
        lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            log.info("removing %s, which a killed process has left", path)
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path, how: int) -> int | None:
    """A descriptor that holds a lock on a folder until it is closed.

    None if another process holds the lock, or if the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _publish(draft: Path, folder: Path) -> None:
    sync(draft)
    try:
        draft.rename(folder)
    except OSError:
        # Another process was faster; the same name means the same content.
        if not folder.is_dir():
            raise
    sync(folder.parent)


def _write_error(error: OSError, folder: Path, draft: Path) -> UserError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"data_dir: cannot write {folder}: {error.strerror or error}: choose another data_dir"
        )
    written = sum(file.stat().st_size for file in draft.glob("*"))
    much = f"more than {(written >> 20) + 1} MiB"
    return UserError(
        f"no space left on device writing {folder} (stopped after {written:,} bytes): "
        f"free {much} or choose another data_dir"
    )
