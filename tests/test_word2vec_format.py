"""Files of word vectors: what gensim reads and writes, and what is refused."""

import gzip
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.word2vec_format import SUFFIXES, read_vectors, write_vectors

WORDS = ["a", "größe", "日本", "x-1", "0", "e"]
VOCAB = Vocabulary(WORDS, np.array([9, 8, 7, 6, 5, 4]))


def table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)


@pytest.mark.parametrize("format", list(SUFFIXES))
def test_gensim_reads_the_same_bits(
    format: VectorFormat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeyedVectors = pytest.importorskip("gensim.models").KeyedVectors
    path, vectors = tmp_path / f"v{SUFFIXES[format]}", table() * np.float32(1e-3)
    caplog.set_level(logging.INFO)
    write_vectors(path, VOCAB, vectors, format)
    assert not caplog.records  # gensim's would name the draft
    if format is VectorFormat.gensim:
        keyed = KeyedVectors.load(str(path))
        assert keyed.get_vecattr("日本", "count") == 7
    else:
        keyed = KeyedVectors.load_word2vec_format(str(path), binary=format is VectorFormat.binary)
        vocab, ours = read_vectors(path)
        assert vocab.words == WORDS and ours.tobytes() == vectors.tobytes()
    assert keyed.index_to_key == WORDS and keyed.vectors.tobytes() == vectors.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("binary", [False, True])
def test_what_gensim_writes_is_read(binary: bool, tmp_path: Path) -> None:
    keyed = pytest.importorskip("gensim.models").KeyedVectors(5)
    keyed.add_vectors(WORDS, table())
    keyed.save_word2vec_format(str(tmp_path / "v"), binary=binary)
    vocab, vectors = read_vectors(tmp_path / "v")
    assert vocab.words == WORDS
    np.testing.assert_allclose(vectors, table(), rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "must begin with a line 'WORDS COLUMNS'"),
        (b"the cat sat\n", "must begin with a line"),
        (b"2 x\n", "must begin with a line"),
        (b"99999999 99999\na 1\n", "must hold 99,999,999 x 99,999 numbers"),
        (b"1 1\na 1\n", "must hold 1 x 1 numbers \\(2 x 1 at least\\)"),
        (b"2 2\na 1 2\nb 1\n", "row 2 must be a word and 2 numbers, got b'b 1'"),
        (b"2 2\na 1 2\nb 1 x\n", "row 2 must be a word"),
        (b"3 2\na 1 2\nb 1 2", "must have 3 rows, has 2"),
        (b"2 2\na 1 2\nb 1 nan\n", "row 2: a number is not finite"),
        (b"2 2\na \x001234567b 123", "must hold 2 x 2 float32 numbers"),
        (b"2 2\na \x001234567bcdefghijklmn", "cut short at row 2 of 2"),
        (b"2 2\n\xff\xfe \x001234567\xff 12345678", "2 of 2 words are not UTF-8"),
        (
            gzip.compress(b"2 1\na 1\nb 2\n", mtime=0),
            "v is compressed by gzip: decompress it first",
        ),
        (b"\x80\x04\x95", "is a pickle, which is not read"),
    ],
)
def test_bad_files_of_vectors(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "v").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_vectors(tmp_path / "v")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Text whose header or first row is wrong; read as binary, its letters would be numbers.
        (b"3 5\na 1 2 3 4\nb 1 2 3 4\nc 1 2 3 4\n", "row 1 must be a word and 5 numbers"),
        (b"2 2\na 1 2 3\nb 1 2 3\n", "row 1 must be a word and 2 numbers, got b'a 1 2 3'"),
        (b"2 2\na 1 2x\nb 1 2\n", "row 1 must be a word and 2 numbers"),
        (b"3 1\na 1.5x\nb 2.5x\nc 3.5x\n", "row 1 must be a word and 1 numbers"),
        (b"2 1\n\xfc 1,50\nb 2,50\n", "is text, but its first row is not a word and 1 numbers"),
        (b"2 2\n\na 1 2\nb 1 2\n", "row 1 must be a word and 2 numbers, got b''"),
        # More rows, or longer ones, than the header says.
        (b"2 2\na 1 2\nb 1 2\nc 1 2\n", "must have 2 rows, has 3"),
        (b"2 2\na 1 2\nb 1 2 3\n", "row 2 must be a word and 2 numbers"),
        (b"2 2\na 1 2\n\nb 1 2\n", "row 2 must be a word and 2 numbers"),
        (b"2 2\na 1 2\nb 1_0 2\n", "row 2 must be a word and 2 numbers"),
        (b"2 2\na 1 2\nb 1 1e39\n", "row 2: a number is not finite"),
    ],
)
def test_text_is_never_read_as_binary(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_vectors(tmp_path / "v")
    assert "\n" not in str(caught.value)


def binary_rows(words: list[bytes], end: bytes = b"\n") -> bytes:
    """Rows of `table()` as word2vec.c (`end` a newline) or gensim (none) writes them."""
    return b"".join(
        word + b" " + row.tobytes() + end for word, row in zip(words, table(), strict=True)
    )


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"6 4\n", "row 2 has no word"),
        (b"3 5\n", "must end after row 3"),
        (b"5 5\n", "must end after row 5"),
        (b"7 5\n", "row 7|must hold 7 x 5"),
        (b"6 6\n", "row 2 has no word|must hold 6 x 6"),
    ],
)
def test_a_header_that_does_not_fit_binary_rows(
    end: bytes, header: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "v").write_bytes(header + binary_rows([w.encode() for w in WORDS], end))
    with pytest.raises(UserError, match=message):
        read_vectors(tmp_path / "v")


def test_text_with_carriage_returns_and_blanks_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"\xef\xbb\xbf2 2 \r\na 1 2 \r\nb 3 4 \r\n\r\n")
    vocab, vectors = read_vectors(tmp_path / "v")
    assert vocab.words == ["a", "b"] and vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("binary", [False, True])
def test_words_that_word2vec_cut_inside_a_character(
    binary: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeyedVectors = pytest.importorskip("gensim.models").KeyedVectors
    long = "слово".encode() * 20
    words = [b"a", long[:97], b"b", long[1:98], b"c", b"d"]
    rows = binary_rows(words)
    if not binary:
        rows = b"".join(
            word + (" %.9g" * 5 % tuple(row.tolist())).encode() + b"\n"
            for word, row in zip(words, table(), strict=True)
        )
    (tmp_path / "v").write_bytes(b"6 5\n" + rows)
    vocab, vectors = read_vectors(tmp_path / "v")
    keyed = KeyedVectors.load_word2vec_format(
        str(tmp_path / "v"), binary=binary, unicode_errors="replace"
    )
    assert vocab.words == keyed.index_to_key and vectors.tobytes() == keyed.vectors.tobytes()
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'v'}: 2 words are not UTF-8, the first in row 2 "
        "(word2vec.c cuts long words inside a character): read with \ufffd in the place"
    ]


@pytest.mark.parametrize("binary", [False, True])
def test_vectors_in_another_encoding_are_refused(binary: bool, tmp_path: Path) -> None:
    words = [word.encode("cp1251") for word in "один два три четыре пять six".split()]
    text = b"".join(word + b" 1 2 3 4 5\n" for word in words)
    (tmp_path / "v").write_bytes(b"6 5\n" + (binary_rows(words) if binary else text))
    with pytest.raises(UserError, match="5 of 6 words are not UTF-8, the first in row 1"):
        read_vectors(tmp_path / "v")


def test_of_a_word_that_comes_twice_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"3 1\na 1\nb 2\na 3\n")
    vocab, vectors = read_vectors(tmp_path / "v")
    assert vocab.words == ["a", "b"] and vectors.tolist() == [[1.0], [2.0]]


def test_without_gensim_only_its_format_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    write_vectors(tmp_path / "v.txt", VOCAB, table(), VectorFormat.text)
    with pytest.raises(UserError, match="export.format=gensim needs gensim .*pip install gensim"):
        write_vectors(tmp_path / "v.kv", VOCAB, table(), VectorFormat.gensim)
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"]
