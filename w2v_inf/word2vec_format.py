"""Files of word vectors in the formats of word2vec.c and gensim.

Decisions:
- The reader is our own. It checks the header against the file's size before it allocates anything,
  and every error is one line that names the place. The first row tells text from binary.
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
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import write_atomically

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
    Raises: UserError that names the error and its place.
    Cost: the file and the vectors in memory; at V = 70,000, D = 300, 6 s for text and 0.3 s for
      binary.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"evaluate.vectors: {path.absolute()} cannot be read ({error.strerror}): "
            "give a word2vec file, text or binary"
        ) from error
    if content[:2] == b"\x80\x04" or path.suffix == ".kv":
        how = "KeyedVectors.load(FILE).save_word2vec_format(OTHER)"
        raise UserError(
            f"{path} is a pickle, which is not read because it could run programs: "
            f"convert it, in gensim, with {how}"
        )
    header, newline, rest = content.partition(b"\n")
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
    first_row = rest.partition(b"\n")[0].split()
    is_text = len(first_row) == num_columns + 1 and all(
        _is_number(field) for field in first_row[1:]
    )
    words, vectors = (_read_text if is_text else _read_binary)(path, rest, num_words, num_columns)
    is_finite = np.isfinite(vectors).all(axis=1)  # [V]
    if not is_finite.all():
        row = int(is_finite.argmin()) + 1
        raise UserError(f"{path}, row {row}: a number is not finite: make it again")
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    kept = sorted(first.values())
    return Vocabulary([words[row] for row in kept], np.arange(len(kept), 0, -1)), vectors[kept]


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_text(
    path: Path, rest: bytes, num_words: int, num_columns: int
) -> tuple[list[str], np.ndarray]:
    lines = rest.split(b"\n")
    if len(lines) < num_words:
        raise UserError(f"{path} must have {num_words:,} rows, has {len(lines):,}: make it again")
    words, vectors = [], np.empty((num_words, num_columns), np.float32)
    for number, line in enumerate(lines[:num_words]):
        try:
            word, *numbers = line.split()
            # Reshaped, because a single number would fill the whole row.
            vectors[number] = np.array(numbers, np.float32).reshape(num_columns)
            words.append(word.decode())
        except ValueError as error:
            raise UserError(
                f"{path}, row {number + 1} must be a word and {num_columns:,} numbers, "
                f"got {line[:40]!r}"
            ) from error
    return words, vectors


def _read_binary(
    path: Path, rest: bytes, num_words: int, num_columns: int
) -> tuple[list[str], np.ndarray]:
    if len(rest) < num_words * (4 * num_columns + 2):
        raise UserError(
            f"{path} must hold {num_words:,} x {num_columns:,} float32 numbers, "
            f"has {len(rest):,} bytes: make it again"
        )
    words, vectors, place = [], np.empty((num_words, num_columns), "<f4"), 0
    for number in range(num_words):
        end = rest.find(b" ", place)
        if end < 0 or end + 1 + 4 * num_columns > len(rest):
            raise UserError(
                f"{path} is cut short at row {number + 1} of {num_words:,}: make it again"
            )
        try:
            words.append(rest[place:end].lstrip(b"\n").decode())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}, row {number + 1} has no word in UTF-8: "
                "give a word2vec file, text or binary"
            ) from error
        vectors[number] = np.frombuffer(rest, "<f4", num_columns, end + 1)
        place = end + 1 + 4 * num_columns
    return words, vectors
