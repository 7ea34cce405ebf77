"""The folder of an encoded corpus: its files, written whole or not at all.

Decisions:
- All files go to a hidden folder beside the final one. It is synced, then renamed. So a folder of
  the final name is complete.
- A killed process leaves its draft. The next one that encodes into the same data_dir removes it.
  Each draft is locked by its process, so a draft that can be locked is nobody's.
- Writers number words as they like. The last step renumbers them by count, in place.
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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import sha256, sync

FORMAT_VERSION = 2
TOKENS, JOINED = "tokens.bin", "joined.bin"
_FILES = {TOKENS, JOINED, "documents.npy", "vocab.tsv", "corpus.json"}
_DRAFT = re.compile(r"\..+-\d+-[0-9a-f]{8}")
_BLOCK_BYTES = 64 << 20
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


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
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


def finish(
    draft: Path,
    words: list[bytes],
    counts: np.ndarray,
    documents: np.ndarray,
    info: dict[str, Any],
) -> None:
    """Renumber the draft's `tokens.bin` by count, and write the other files.

    Args:
      words, counts: of each id in `tokens.bin`, [V]; words that do not occur are left out.
      documents: offsets, [documents + 1], int64; the last is the number of tokens.
      info: goes into `corpus.json` as it is, beside sizes and checksums.
    """
    order = _by_count(words, counts)
    vocabulary = Vocabulary(
        [word.decode() for word in order["word"].to_pylist()], order["count"].to_numpy()
    )
    tokens_sha256 = _renumber(draft / TOKENS, order["id"].to_numpy(), len(words))
    vocabulary.save(draft / "vocab.tsv")
    _write_array(draft / "documents.npy", documents)
    info = info | {
        "num_tokens": int(documents[-1]),
        "num_types": len(vocabulary),
        "num_documents": len(documents) - 1,
        "tokens_sha256": tokens_sha256,
        "documents_sha256": sha256(draft / "documents.npy"),
        "vocab_sha256": sha256(draft / "vocab.tsv"),
        "format_version": FORMAT_VERSION,
    }
    (draft / "corpus.json").write_text(json.dumps(info, indent=2) + "\n")


def _by_count(words: list[bytes], counts: np.ndarray) -> pa.Table:
    """Columns word, count and id of the words that occur, by falling count, then by word.

    Bytes of UTF-8 sort as code points do.
    """
    columns = [
        pa.array(words, pa.large_binary()),
        pa.array(counts),
        pa.array(np.arange(len(words), dtype=np.int64)),
    ]
    table = pa.table(columns, ["word", "count", "id"])
    if np.any(counts == 0):
        table = table.filter(pa.array(counts > 0))
    return table.sort_by([("count", "descending"), ("word", "ascending")])


def _renumber(path: Path, order: np.ndarray, num_ids: int) -> str:
    """Replace each id in the file by its place in `order` [V]; returns the sha256 of the result.

    Plain calls read and write: under a memory map, a full disk ends in a signal, not in an error.
    """
    new_id = np.zeros(num_ids, np.dtype("<i4"))
    new_id[order] = np.arange(len(order))
    digest = hashlib.sha256()
    with path.open("r+b") as file:
        while block := file.read(_BLOCK_BYTES):
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
