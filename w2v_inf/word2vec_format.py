"""Files of word vectors in the formats of word2vec.c and gensim.

Decisions:
- The reader is our own. It checks the header against the file's size before it allocates anything,
  and every error is one line that names the row.
- A file is text if its first row is, or if all of it looks like text; so are numbers that look like
  text. So text with a wrong header is never read as binary.
- Every row must be as the header says, and nothing may follow the last.
- word2vec.c cuts long words, often inside a character. Such words are read with U+FFFD in the place
  of the rest, as gensim does on request. A file of which most words are not UTF-8 is refused.
- gensim's own files are pickles, which can run programs when read. They are written, never read.
- Text has nine digits, which restore a float32 exactly.
- gensim is imported only to write its own format, so the rest works without it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.archives import compression
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import write_atomically
from w2v_inf.system_errors import raise_if_refused

log = logging.getLogger(__name__)
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\n\v\f\r"
_CONTROLS = bytes(byte for byte in range(32) if byte not in _BLANKS)
_SAMPLE_BYTES = 1 << 20
SUFFIXES = {VectorFormat.text: ".txt", VectorFormat.binary: ".bin", VectorFormat.gensim: ".kv"}


def write_vectors(path: Path, vocab: Vocabulary, vectors: np.ndarray, format: VectorFormat) -> None:
    """Write vectors [V, D] float32 with their words, whole or not at all.

    Raises: UserError if the folder cannot be written, or gensim is missing for its format.
    Cost: at V = 70,000, D = 300, 8 s for text and 1 s for the others.
    """
    writers: dict[VectorFormat, Callable[[Path, Vocabulary, np.ndarray], None]] = {
        VectorFormat.text: _write_text,
        VectorFormat.binary: _write_binary,
        VectorFormat.gensim: _write_gensim,
    }
    write_atomically(path, lambda draft: writers[format](draft, vocab, vectors))


def _write_text(path: Path, vocab: Vocabulary, vectors: np.ndarray) -> None:
    row_format = " ".join(["%.9g"] * vectors.shape[1])
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(vocab)} {vectors.shape[1]}\n")
        for word, row in zip(vocab.words, vectors, strict=True):
            file.write(f"{word} {row_format % tuple(row.tolist())}\n")


def _write_binary(path: Path, vocab: Vocabulary, vectors: np.ndarray) -> None:
    with path.open("wb") as file:
        file.write(f"{len(vocab)} {vectors.shape[1]}\n".encode())
        for word, row in zip(vocab.words, vectors.astype("<f4"), strict=True):
            file.write(word.encode() + b" " + row.tobytes() + b"\n")


def _write_gensim(path: Path, vocab: Vocabulary, vectors: np.ndarray) -> None:
    try:
        from gensim.models import KeyedVectors  # takes a second
    except ImportError as error:
        raise UserError(
            f"export.format=gensim needs gensim ({error}): pip install gensim, "
            "or take export.format=binary"
        ) from error
    keyed = KeyedVectors(vectors.shape[1])
    keyed.add_vectors(vocab.words, vectors)
    keyed.expandos["count"] = vocab.counts
    with _quiet_gensim():
        keyed.save(str(path), sep_limit=2**62)  # one file, at any size


@contextmanager
def _quiet_gensim() -> Iterator[None]:
    """gensim would log the name of the draft, which is no file of the user's."""
    logger = logging.getLogger("gensim")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def read_vectors(path: Path) -> tuple[Vocabulary, np.ndarray]:
    """Read words, in the order of the file, and their vectors, [V, D] float32.

    If a word comes twice, its first vector counts. The file has no word counts: those of the
    vocabulary are V, V - 1, ..., 1.
    Raises: UserError that names the error and its row.
    Cost: the file and the vectors in memory; at V = 70,000, D = 300, 6 s for text and 0.3 s for
      binary.
    """
    rest, num_words, num_columns = _read_header(path)
    read_rows = _read_text if _is_text(rest, num_columns) else _read_binary
    raw_words, vectors = read_rows(path, rest, num_words, num_columns)
    is_finite = np.isfinite(vectors).all(axis=1)  # [V]
    if not is_finite.all():
        row = int(is_finite.argmin()) + 1
        raise UserError(f"{path}, row {row}: a number is not finite: make it again")
    words = _decode(path, raw_words)
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    kept = sorted(first.values())
    return Vocabulary([words[row] for row in kept], np.arange(len(kept), 0, -1)), vectors[kept]


def _read_header(path: Path) -> tuple[bytes, int, int]:
    """The bytes behind the header, and the numbers of words and columns that it gives."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise_if_refused(path, error)
        raise UserError(
            f"evaluate.vectors: {path.absolute()} cannot be read ({error.strerror}): "
            "give a word2vec file, text or binary"
        ) from error
    if (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05") or path.suffix == ".kv":
        how = "KeyedVectors.load(FILE).save_word2vec_format(OTHER)"
        raise UserError(
            f"{path} is a pickle, which is not read because it could run programs: "
            f"convert it, in gensim, with {how}"
        )
    if kind := compression(content[:10]):
        raise UserError(f"{path} is compressed by {kind}: decompress it first")
    header, newline, rest = content.removeprefix(_BOM).partition(b"\n")
    sizes = header.split()
    if (
        not newline
        or len(sizes) != 2
        or not all(size.isdigit() and len(size) < 12 for size in sizes)
    ):
        raise UserError(
            f"{path} must begin with a line 'WORDS COLUMNS', begins with {header[:40]!r}: "
            "give a word2vec file, text or binary"
        )
    num_words, num_columns = map(int, sizes)
    # A number takes at least one byte.
    if num_words < 2 or num_columns < 1 or len(rest) < num_words * num_columns:
        raise UserError(
            f"{path} must hold {num_words:,} x {num_columns:,} numbers (2 x 1 at least), "
            f"has {len(rest):,} bytes: make it again"
        )
    return rest, num_words, num_columns


def _is_text(rest: bytes, num_columns: int) -> bool:
    try:
        _numbers(rest.partition(b"\n")[0], num_columns)
    except ValueError:
        return _looks_like_text(rest[:_SAMPLE_BYTES])
    return True


def _looks_like_text(sample: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters: those of numbers hardly ever are."""
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # the sample ends inside a character
            return False
    return len(sample.translate(None, _CONTROLS)) == len(sample)


def _numbers(line: bytes, num_columns: int) -> tuple[bytes, np.ndarray]:
    """The word and the vector [D] of a row of text. Raises: ValueError if it is no such row."""
    word, *numbers = line.split()
    if b"_" in b"".join(numbers):
        raise ValueError("Python reads 1_0 as 10")
    # Reshaped, because a single number would fill the whole row.
    with np.errstate(over="ignore"):  # too large a number becomes infinite, and is refused as such
        return word, np.array(numbers, np.float32).reshape(num_columns)


def _read_text(
    path: Path, rest: bytes, num_words: int, num_columns: int
) -> tuple[list[bytes], np.ndarray]:
    lines = rest.rstrip(_BLANKS).split(b"\n")
    words, vectors = [], np.empty((num_words, num_columns), np.float32)
    for number, line in enumerate(lines[:num_words]):
        try:
            word, vectors[number] = _numbers(line, num_columns)
        except ValueError as error:
            raise UserError(
                f"{path}, row {number + 1} must be a word and {num_columns:,} numbers, "
                f"got {line[:40]!r} ({max(0, len(line.split()) - 1):,} numbers)"
                f"{': is the header right?' if number == 0 else ''}"
            ) from error
        words.append(word)
    if len(lines) != num_words:
        raise UserError(f"{path} must have {num_words:,} rows, has {len(lines):,}: make it again")
    return words, vectors


def _read_binary(
    path: Path, rest: bytes, num_words: int, num_columns: int
) -> tuple[list[bytes], np.ndarray]:
    if len(rest) < num_words * (4 * num_columns + 2):
        raise UserError(
            f"{path} must hold {num_words:,} x {num_columns:,} float32 numbers, "
            f"has {len(rest):,} bytes: make it again"
        )
    words, vectors, place = [], np.empty((num_words, num_columns), "<f4"), 0
    between = b""  # word2vec.c ends each row with a newline, gensim does not
    for number in range(num_words):
        end = rest.find(b" ", place)
        if end < 0 or end + 1 + 4 * num_columns > len(rest):
            raise UserError(
                f"{path} is cut short at row {number + 1} of {num_words:,}: make it again"
            )
        word = rest[place:end]
        if number == 1:
            between = b"\n" if word.startswith(b"\n") else b""
        if number and not word.startswith(between) or not _is_word(word.removeprefix(between)):
            raise UserError(
                f"{path}, row {number + 1} has no word, but {word[:40]!r}: "
                "give a word2vec file, text or binary, whose first line gives its size"
            )
        words.append(word.removeprefix(between))
        vectors[number] = np.frombuffer(rest, "<f4", num_columns, end + 1)
        place = end + 1 + 4 * num_columns
    if rest[place:] not in (b"", b"\n"):
        raise UserError(
            f"{path} must end after row {num_words:,} of {num_columns:,} float32 numbers, "
            f"has {len(rest) - place:,} bytes more: make it again"
        )
    if _looks_like_text(vectors[:1000].tobytes()):
        raise UserError(
            f"{path} is text, but its first row is not a word and {num_columns:,} numbers: "
            "make it again"
        )
    return words, vectors


def _is_word(word: bytes) -> bool:
    """Whether a word in a binary file is one: otherwise the row does not begin there."""
    return len(word) > 0 and len(word.translate(None, _CONTROLS + _BLANKS)) == len(word)


def _decode(path: Path, words: list[bytes]) -> list[str]:
    decoded = [word.decode(errors="replace") for word in words]
    bad = [
        row
        for row, (text, word) in enumerate(zip(decoded, words, strict=True), 1)
        if "\ufffd" in text and text.encode() != word
    ]
    if 2 * len(bad) > len(words):
        raise UserError(
            f"{path}: {len(bad):,} of {len(words):,} words are not UTF-8, the first in row "
            f"{bad[0]:,}: train the vectors on UTF-8 text, or convert the file"
        )
    if bad:
        log.warning(
            "%s: %s words are not UTF-8, the first in row %s (word2vec.c cuts long words inside "
            "a character): read with \ufffd in the place",
            path,
            f"{len(bad):,}",
            f"{bad[0]:,}",
        )
    return decoded
